// What lib/swarm/hyperswarm.ts uses of packages that ship no types.

declare module 'hyperdht' {
  import type { EventEmitter } from 'node:events'
  import type { Readable } from 'node:stream'
  import type { KeyPair, TopicQueryOptions, TopicReply } from './directory.ts'

  export interface Address {
    readonly host: string
    readonly port: number
  }
  export interface Query<T> extends Readable, AsyncIterable<T> {
    finished(): Promise<void>
    readonly closestNodes: readonly Address[]
  }
  export interface Options {
    readonly host?: string
    readonly bootstrap?: readonly Address[]
    readonly nodes?: readonly Address[]
    readonly keyPair?: KeyPair
    readonly maxSize?: number
    readonly maxAge?: number
    readonly maxWindow?: number
    readonly udx?: unknown
  }
  export default class HyperDHT extends EventEmitter {
    static bootstrapper(port: number, host: string, options?: Options): HyperDHT
    static keyPair(seed?: Uint8Array): KeyPair
    bootstrapNodes: readonly Address[]
    readonly destroyed: boolean
    readonly io: { readonly networkInterfaces: { destroy(): Promise<void> } }
    fullyBootstrapped(): Promise<void>
    address(): Address | null
    toArray(options?: { limit?: number }): Address[]
    ping(to: Address, options?: { retry?: boolean }): Promise<unknown>
    findNode(target: Uint8Array, options?: TopicQueryOptions): Query<unknown>
    lookup(topic: Uint8Array, options?: TopicQueryOptions): Query<TopicReply>
    announce(
      topic: Uint8Array,
      keyPair: KeyPair,
      relays: readonly Address[],
      options?: TopicQueryOptions,
    ): Query<TopicReply>
    unannounce(topic: Uint8Array, keyPair: KeyPair, options?: TopicQueryOptions): Promise<void>
    destroy(options?: { force?: boolean }): Promise<void>
  }
}

declare module 'hyperswarm' {
  import type { EventEmitter } from 'node:events'
  import type HyperDHT from 'hyperdht'
  import type { KeyPair } from './directory.ts'
  import type { SwarmConnection } from './membership.ts'

  export default class Hyperswarm extends EventEmitter {
    constructor(options: { dht: HyperDHT; keyPair: KeyPair; maxPeers?: number })
    readonly dht: HyperDHT
    readonly keyPair: KeyPair
    on(event: 'connection', listener: (connection: SwarmConnection) => void): this
    listen(): Promise<void>
    /** Connects to that key, and again when the connection ends, until told to leave it. */
    joinPeer(publicKey: Uint8Array): void
    leavePeer(publicKey: Uint8Array): void
    destroy(options?: { force?: boolean }): Promise<void>
  }
}
