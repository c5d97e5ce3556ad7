import { EventEmitter } from 'node:events'
import { isIPv4 } from 'node:net'
import { networkInterfaces } from 'node:os'
import { type Clock, systemClock } from '../platform/clock.ts'
import type { DatagramBackend } from './backend.ts'
import { bunBackend } from './backend-bun.ts'
import { nodeBackend } from './backend-node.ts'
import { FLAG_DESTROY, FLAGS_NUMBERED, readHeader } from './packet.ts'
import { GIVE_UP_TIME } from './sender.ts'
import { type SocketHost, UDXSocket } from './socket.ts'
import { type Route, type StreamHost, type StreamOptions, UDXStream } from './stream.ts'

/** Milliseconds for which a stream that is over is remembered: as long as a peer that missed the last packet keeps asking. */
export const LINGER_TIME = GIVE_UP_TIME + 2_000
/** How many streams that are over are remembered. */
const MAX_LINGERING = 1_024

/** The datagram sockets of this runtime. */
export const runtimeBackend: DatagramBackend = 'Bun' in globalThis ? bunBackend : nodeBackend

export interface UDXOptions {
  /** Time and timers; the runtime's own by default. */
  readonly clock?: Clock
  /** Datagram sockets; those of this runtime by default. */
  readonly backend?: DatagramBackend
}

/** The answer to a peer that does not know yet that a stream is over. */
interface LastWord {
  readonly route: Route
  readonly packet: Uint8Array
  readonly until: number
}

/**
 * UDX, the transport under Hyperswarm: reliable, multiplexed streams over IPv4 datagrams. Pass it to `new HyperDHT({ udx })`,
 * in place of the addon udx-native, which needs Node. It is compatible with version 1.21 of the addon on the wire, and has the
 * part of its interface that hyperdht uses when nodes connect directly. It is made for the few hundred bytes that members send
 * each other on a connection, and does not hold back a sender whose reader is slow. More bytes arrive correctly, but slowly if
 * packets are lost.
 */
export class UDX implements SocketHost, StreamHost {
  readonly clock: Clock
  readonly backend: DatagramBackend
  /** How many datagrams all sockets have received so far. */
  packetsReceived = 0
  /** Streams that are not over, by their id. */
  readonly streams = new Map<number, UDXStream>()
  /**
   * The last words of streams that are over, the oldest first. The addon has none, so there a peer that misses the last packet
   * times out.
   */
  readonly #lastWords = new Map<number, LastWord>()

  constructor({ clock = systemClock, backend = runtimeBackend }: UDXOptions = {}) {
    this.clock = clock
    this.backend = backend
  }

  static isIPv4(host: string): boolean {
    return isIPv4(host)
  }

  createSocket(): UDXSocket {
    return new UDXSocket(this)
  }

  /**
   * Makes a stream with the local `id` (32 bits, unique in this instance), under which the peer addresses it. It receives at
   * once, and sends as soon as it is connected.
   *
   * @throws {Error} if the id is taken
   */
  createStream(id: number, options?: StreamOptions): UDXStream {
    if (this.streams.has(id)) throw new Error(`stream id ${id} is taken`)
    const stream = new UDXStream(this, id, options)
    this.#lastWords.delete(id)
    this.streams.set(id, stream)
    return stream
  }

  receive(socket: UDXSocket, packet: Uint8Array, port: number, host: string): boolean {
    this.packetsReceived++
    const header = readHeader(packet)
    if (header === undefined) return false
    const stream = this.streams.get(header.id)
    if (stream === undefined) return this.#answer(header.id, header.flags)
    stream.receive(socket, header, packet, port, host)
    return true
  }

  forget(id: number, lastWord?: Omit<LastWord, 'until'>): void {
    this.streams.delete(id)
    if (lastWord === undefined) return
    const now = this.clock.now()
    for (const [oldest, { until }] of this.#lastWords) {
      if (until > now && this.#lastWords.size < MAX_LINGERING) break
      this.#lastWords.delete(oldest)
    }
    this.#lastWords.set(id, { ...lastWord, until: now + LINGER_TIME })
  }

  networkInterfaces(): NetworkInterface[] {
    return Object.entries(networkInterfaces()).flatMap(([name, addresses = []]) =>
      addresses.map(({ address: host, family, internal }) => ({
        name,
        host,
        family: family === 'IPv6' ? 6 : 4,
        internal,
      })),
    )
  }

  /** Watches nothing, because a mirror keeps the address that it was started with. */
  watchNetworkInterfaces(): EventEmitter & { readonly interfaces: NetworkInterface[]; destroy(): Promise<void> } {
    return Object.assign(new EventEmitter(), { interfaces: this.networkInterfaces(), destroy: () => Promise.resolve() })
  }

  /** Answers a packet for a stream that is over. @returns whether there was such a stream */
  #answer(id: number, flags: number): boolean {
    const lastWord = this.#lastWords.get(id)
    if (lastWord === undefined || lastWord.until < this.clock.now()) return false
    const { route, packet } = lastWord
    if ((flags & FLAG_DESTROY) !== 0) this.#lastWords.delete(id)
    else if ((flags & FLAGS_NUMBERED) !== 0 || packet[2] === FLAG_DESTROY)
      route.socket.trySend(packet, route.port, route.host)
    return true
  }
}

/** One address of this machine. */
interface NetworkInterface {
  readonly name: string
  readonly host: string
  readonly family: 4 | 6
  /** Loopback. */
  readonly internal: boolean
}
