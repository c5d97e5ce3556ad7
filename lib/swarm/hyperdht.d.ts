// The parts of packages without types that lib/swarm/hyperswarm.ts, tests and benchmarks use.

declare module 'hyperdht' {
  import type { EventEmitter } from 'node:events'
  import type { DhtRequest, DhtResponse, IncomingRequest } from './dht/rpc.ts'
  import type { NodeAddress } from './node.ts'

  export interface KeyPair {
    readonly publicKey: Uint8Array
  }
  export interface Options {
    readonly host?: string
    readonly bootstrap?: readonly NodeAddress[]
    readonly keyPair?: KeyPair
    readonly maxWindow?: number
    readonly maxPingDelay?: number
    readonly udx?: unknown
  }
  /** Called for each request of the session before it is sent, with its timeout in milliseconds, and when it is over. */
  export interface RequestSession {
    _attach(request: { timeout: number }): void
    _detach(request: unknown): void
  }
  export default class HyperDHT extends EventEmitter {
    static bootstrapper(port: number, host: string, options?: Options): HyperDHT
    static keyPair(): KeyPair
    static hash(bytes: Uint8Array): Uint8Array
    readonly io: {
      /** Runs `_drain` every 750 ms. */
      _drainInterval: NodeJS.Timeout
      /** How many runs of `_drain` are left until the secret of tokens changes. */
      _rotateSecrets: number
      _drain(): void
      /** A token for that address, made with the present secret (1) or the last one (0); replaceable. */
      token(address: NodeAddress, secret: 0 | 1): Uint8Array
    }
    /** Runs `_ontick` every 5 s, which refreshes the table at every eighth run. */
    _tickInterval: NodeJS.Timeout
    _tick: number
    /** The time of day of the last run. After more than 15 s it assumes that the machine has slept. */
    _lastTick: number
    _ontick(): void
    fullyBootstrapped(): Promise<void>
    /** Connects to the node with that key, through `relayAddresses` if there are any; replaceable. */
    connect(publicKey: Uint8Array, options?: { readonly relayAddresses?: readonly NodeAddress[] | null }): unknown
    /** Answers a request of another node; replaceable. */
    onrequest(request: IncomingRequest): boolean
    on(event: 'add-node', listener: (node: NodeAddress) => void): this
    request(
      request: DhtRequest,
      to: NodeAddress,
      options?: { retry?: boolean; session?: RequestSession },
    ): Promise<DhtResponse>
    destroy(options?: { force?: boolean }): Promise<void>
  }
}

declare module 'hyperswarm' {
  import type { EventEmitter } from 'node:events'
  import type HyperDHT from 'hyperdht'
  import type { KeyPair } from 'hyperdht'
  import type { SwarmConnection } from './members/membership.ts'

  /** Accepts connections. */
  export interface Server {
    /** Called for each handshake of a node that wants to connect; replaceable. */
    createHandshake(...keys: readonly unknown[]): { recv(bytes: Uint8Array): unknown }
    /** Keeps the server's address announced; null before the server listens. */
    readonly _announcer: { stop(): Promise<void> } | null
  }
  /** Returns entries some time after they were added. */
  interface BulkTimer {
    _interval: NodeJS.Timeout | null
    readonly _next: readonly unknown[]
    readonly _pending: readonly unknown[]
    _ontick(): void
  }
  export default class Hyperswarm extends EventEmitter {
    readonly server: Server
    readonly _timer: Readonly<Record<'_sTimer' | '_mTimer' | '_lTimer' | '_xTimer', BulkTimer>>
    constructor(options: { dht: HyperDHT; keyPair: KeyPair; maxPeers?: number })
    on(event: 'connection', listener: (connection: SwarmConnection) => void): this
    listen(): Promise<void>
    /** Connects to that key, and again when the connection ends, until `leavePeer`. */
    joinPeer(publicKey: Uint8Array): void
    leavePeer(publicKey: Uint8Array): void
    destroy(options?: { force?: boolean }): Promise<void>
  }
}

declare module 'sodium-native' {
  /** Fills `bytes` at random. */
  export function randombytes_buf(bytes: Uint8Array): void
  /** `sealed` is 16 bytes longer than `plain`, the nonce has 24 bytes and the key 32. `sealed` and `plain` may overlap. */
  export function crypto_secretbox_easy(sealed: Uint8Array, plain: Uint8Array, nonce: Uint8Array, key: Uint8Array): void
  /** @returns false, and leaves `plain` unchanged, if it does not open */
  export function crypto_secretbox_open_easy(
    plain: Uint8Array,
    sealed: Uint8Array,
    nonce: Uint8Array,
    key: Uint8Array,
  ): boolean
}
