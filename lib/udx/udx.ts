import { lookup } from 'node:dns/promises'
import { EventEmitter } from 'node:events'
import { isIPv4 } from 'node:net'
import { networkInterfaces as systemInterfaces } from 'node:os'
import type { DatagramBackend } from './backend.ts'
import { bunBackend } from './backend-bun.ts'
import { nodeBackend } from './backend-node.ts'
import { Alarm, createSystemClock, Turn, type UdxClock } from './clock.ts'
import { Linger } from './linger.ts'
import { Slab } from './outgoing.ts'
import type { Header } from './packet.ts'
import { type SocketHost, UDXSocket } from './socket.ts'
import { type StreamHost, type StreamOptions, UDXStream } from './stream.ts'

/** How often the addresses of this machine are compared, in milliseconds. Those of a server hardly ever change. */
const INTERVAL = 30_000

/** The datagram sockets of the running runtime. */
export const runtimeBackend: DatagramBackend = 'Bun' in globalThis ? bunBackend : nodeBackend

export interface UDXOptions {
  /** Time and timers; the runtime's own by default. */
  readonly clock?: UdxClock
  /** Datagram sockets; those of the running runtime by default. */
  readonly backend?: DatagramBackend
}

/**
 * UDX: reliable, multiplexed streams over IPv4 datagrams, compatible on the wire with the addon udx-native 1.21, and with the
 * part of its interface that hyperdht uses. To be passed to `new HyperDHT({ udx })`.
 */
export class UDX implements SocketHost, StreamHost {
  readonly clock: UdxClock
  readonly backend: DatagramBackend
  readonly turn: Turn
  readonly linger: Linger
  readonly slab = new Slab()
  readonly streams = new Map<number, UDXStream>()
  /** Datagrams that all sockets have received so far. */
  packetsReceived = 0

  constructor({ clock = createSystemClock(), backend = runtimeBackend }: UDXOptions = {}) {
    this.clock = clock
    this.backend = backend
    this.turn = new Turn(clock)
    this.linger = new Linger(clock)
  }

  static isIPv4(host: string): boolean {
    return isIPv4(host)
  }

  createSocket(): UDXSocket {
    return new UDXSocket(this)
  }

  /**
   * A stream with the local `id` (32 bits, unique in this instance) by which the peer addresses it. It receives from the start,
   * and sends once it is connected.
   *
   * @throws {Error} if the id is taken
   */
  createStream(id: number, options: StreamOptions = {}): UDXStream {
    return new UDXStream(this, id, options)
  }

  /** Hands a packet to its stream. @returns whether there is one. */
  dispatch(socket: UDXSocket, header: Header, packet: Uint8Array, port: number, host: string): boolean {
    const stream = this.streams.get(header.id)
    if (stream === undefined) return this.linger.onPacket(header)
    stream.receive(socket, header, packet, port, host)
    return true
  }

  networkInterfaces(): NetworkInterface[] {
    return networkInterfaces()
  }

  watchNetworkInterfaces(): NetworkInterfaces {
    return new NetworkInterfaces(this.clock)
  }

  /** Asks the system for an address of `host`. `family` 0: either. @throws the system's error (ENOTFOUND). */
  async lookup(host: string, options: { family?: 0 | 4 | 6 } = {}): Promise<{ host: string; family: number }> {
    const { address, family } = await lookup(host, { family: options.family ?? 0 })
    return { host: address, family }
  }
}

/** One address of this machine. */
export interface NetworkInterface {
  readonly name: string
  readonly host: string
  readonly family: 4 | 6
  /** Loopback. */
  readonly internal: boolean
}

/** The addresses of this machine at this moment. */
export function networkInterfaces(): NetworkInterface[] {
  const found: NetworkInterface[] = []
  for (const [name, addresses] of Object.entries(systemInterfaces())) {
    for (const { address, family, internal } of addresses ?? [])
      found.push({ name, host: address, family: family === 'IPv6' ? 6 : 4, internal })
  }
  return found
}

/** Watches the addresses of this machine from the start, without keeping the process alive. */
export class NetworkInterfaces extends EventEmitter<{ change: [interfaces: NetworkInterface[]] }> {
  interfaces: NetworkInterface[]
  readonly #clock: UdxClock
  readonly #list: () => NetworkInterface[]
  readonly #alarm: Alarm

  constructor(clock: UdxClock, list: () => NetworkInterface[] = networkInterfaces) {
    super()
    this.#clock = clock
    this.#list = list
    this.interfaces = list()
    this.#alarm = new Alarm(clock, () => this.#compare(), true)
    this.#alarm.set(clock.now() + INTERVAL)
  }

  destroy(): Promise<void> {
    this.#alarm.close()
    return Promise.resolve()
  }

  #compare(): void {
    this.#alarm.set(this.#clock.now() + INTERVAL)
    let found = this.interfaces
    try {
      found = this.#list()
    } catch {
      // The process may have no file descriptor left. It is asked again.
    }
    if (JSON.stringify(found) === JSON.stringify(this.interfaces)) return
    this.interfaces = found
    this.emit('change', found)
  }
}
