import type { EventEmitter } from 'node:events'
import { createRequire } from 'node:module'
import type { Duplex } from 'node:stream'

/** The parts of hyperdht, which ships no types, that these tests use. */
export interface Dht {
  fullyBootstrapped(): Promise<void>
  address(): { host: string; port: number }
  createServer(onConnection: (connection: NoiseStream) => void): DhtServer
  connect(publicKey: Uint8Array, options?: object): NoiseStream
  announce(topic: Uint8Array, keyPair: KeyPair, relays: readonly object[]): { finished(): Promise<void> }
  lookup(topic: Uint8Array): AsyncIterable<{ peers: { publicKey: Uint8Array }[] }>
  destroy(options?: { force: boolean }): Promise<void>
  readonly defaultKeyPair: KeyPair
}
export interface KeyPair {
  readonly publicKey: Uint8Array
  readonly secretKey: Uint8Array
}
export interface DhtServer {
  listen(keyPair: KeyPair): Promise<void>
  close(): Promise<void>
}
/** A socket of the addon or of lib/udx: they have the same interface. */
export interface AnySocket extends EventEmitter {
  readonly bound: boolean
  bind(port: number, host: string): void
  address(): { host: string; port: number }
  close(): Promise<void>
}
export interface NoiseStream extends Duplex {
  readonly remotePublicKey: Uint8Array
  readonly opened: Promise<boolean>
}
export interface DhtConstructor {
  new (options: object): Dht
  bootstrapper(port: number, host: string, options?: object): Dht
}

const require = createRequire(import.meta.url)

/** The installed hyperdht. */
export const HyperDHT = require('hyperdht') as DhtConstructor

/** The addon. To be asked for on Node only: elsewhere its first use ends the process. */
export function addon(): new () => { createSocket(): AnySocket } {
  return require('udx-native') as new () => { createSocket(): AnySocket }
}
