// What lib/swarm/hyperswarm.ts, and tests in the place of a stranger, use of packages that ship no types.

declare module 'hyperdht' {
  import type { EventEmitter } from 'node:events'
  import type { DhtRequest, DhtResponse, KeyPair } from './dht/hyperdht-rpc.ts'
  import type { RecordStore } from './dht/record-store.ts'
  import type { TopicRecord } from './dht/rpc.ts'

  export interface Address {
    readonly host: string
    readonly port: number
  }
  export interface Options {
    readonly host?: string
    readonly bootstrap?: readonly Address[]
    readonly nodes?: readonly Address[]
    readonly keyPair?: KeyPair
    readonly maxSize?: number
    readonly maxAge?: number
    readonly maxWindow?: number
    readonly maxPingDelay?: number
    readonly udx?: unknown
  }
  export interface IncomingRequest {
    readonly from: Address & { readonly id: Uint8Array | null }
    readonly command: number
    readonly value: Uint8Array | null
    reply(value: Uint8Array, options: { readonly token: boolean; readonly closerNodes: boolean }): void
  }
  /** Sees each of its requests before it is sent, with its timeout in milliseconds, and when it is over. */
  export interface RequestSession {
    _attach(request: { timeout: number }): void
    _detach(request: unknown): void
  }
  export interface Query<T> extends AsyncIterable<T> {
    finished(): Promise<void>
  }
  export default class HyperDHT extends EventEmitter {
    static bootstrapper(port: number, host: string, options?: Options): HyperDHT
    static keyPair(seed?: Uint8Array): KeyPair
    static hash(bytes: Uint8Array): Uint8Array
    readonly io: { readonly networkInterfaces: { destroy(): Promise<void> } }
    /** What the node stores for others, once it does. `records` is a cache that one of ours can replace. */
    readonly _persistent: { records: Pick<RecordStore, 'add' | 'remove' | 'get' | 'destroy'> } | null
    fullyBootstrapped(): Promise<void>
    /** Answers a request of another node; replaceable. */
    onrequest(request: IncomingRequest): boolean
    on(event: 'add-node', listener: (node: Address) => void): this
    once(event: 'persistent' | 'close', listener: () => void): this
    request(
      request: DhtRequest,
      to: Address,
      options?: { retry?: boolean; session?: RequestSession },
    ): Promise<DhtResponse>
    lookup(
      topic: Uint8Array,
      options?: { nodes?: readonly Address[] },
    ): Query<{ readonly peers: readonly TopicRecord[] }>
    announce(
      topic: Uint8Array,
      keyPair: KeyPair,
      relays: readonly Address[],
      options?: { nodes?: readonly Address[] },
    ): Query<unknown>
    destroy(options?: { force?: boolean }): Promise<void>
  }
}

declare module 'hyperdht/lib/persistent.js' {
  import type { Sign } from './dht/hyperdht-rpc.ts'

  const Persistent: { readonly signAnnounce: Sign; readonly signUnannounce: Sign }
  export default Persistent
}

declare module 'hyperswarm' {
  import type { EventEmitter } from 'node:events'
  import type HyperDHT from 'hyperdht'
  import type { KeyPair } from './dht/hyperdht-rpc.ts'
  import type { SwarmConnection } from './members/membership.ts'

  /** What accepts connections. */
  export interface Server {
    /** Called for each handshake of a node that wants to connect; replaceable. */
    createHandshake(...keys: readonly unknown[]): { recv(bytes: Uint8Array): unknown }
  }
  export default class Hyperswarm extends EventEmitter {
    readonly server: Server
    constructor(options: { dht: HyperDHT; keyPair: KeyPair; maxPeers?: number })
    readonly dht: HyperDHT
    readonly keyPair: KeyPair
    on(event: 'connection', listener: (connection: SwarmConnection) => void): this
    listen(): Promise<void>
    /** Connects to that key, and again when the connection ends, until `leavePeer`. */
    joinPeer(publicKey: Uint8Array): void
    leavePeer(publicKey: Uint8Array): void
    destroy(options?: { force?: boolean }): Promise<void>
  }
}

declare module 'sodium-native' {
  /** `sealed` is 16 bytes longer than `plain`, the nonce has 24 and the key 32. They may overlap. */
  export function crypto_secretbox_easy(sealed: Uint8Array, plain: Uint8Array, nonce: Uint8Array, key: Uint8Array): void
  /** @returns false, with `plain` as it was, if it does not open */
  export function crypto_secretbox_open_easy(
    plain: Uint8Array,
    sealed: Uint8Array,
    nonce: Uint8Array,
    key: Uint8Array,
  ): boolean
}
