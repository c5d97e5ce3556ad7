import { lookup } from 'node:dns/promises'
import { isIPv4 } from 'node:net'
import type { DatagramBackend } from './backend.ts'
import { bunBackend } from './backend-bun.ts'
import { nodeBackend } from './backend-node.ts'
import { createSystemClock, type UdxClock } from './clock.ts'
import { Linger } from './linger.ts'
import { type NetworkInterface, NetworkInterfaces, networkInterfaces } from './network-interfaces.ts'
import type { Header } from './packet.ts'
import { Slab } from './slab.ts'
import { type SocketHost, UDXSocket } from './socket.ts'
import { type StreamHost, type StreamOptions, UDXStream } from './stream.ts'
import { Turn } from './turn.ts'

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
