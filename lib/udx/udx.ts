import { lookup } from 'node:dns/promises'
import type { Backend } from './backend.ts'
import { runtimeBackend } from './backend-runtime.ts'
import { type Clock, createSystemClock } from './clock.ts'
import type { ConnectionContext } from './connection.ts'
import { type Family, familyOf } from './ip.ts'
import { Linger } from './linger.ts'
import { type NetworkInterface, NetworkInterfaces, networkInterfaces } from './network-interfaces.ts'
import type { Header } from './packet.ts'
import { Slab } from './slab.ts'
import { type SocketOptions, UDXSocket } from './socket.ts'
import { type StreamOptions, UDXStream } from './stream.ts'
import { Turn } from './turn.ts'

export interface UDXOptions {
  /** Time and timers; the runtime's own by default. */
  readonly clock?: Clock
  /** Datagram sockets; those of the running runtime by default. */
  readonly backend?: Backend
}

/** What sockets and streams of one instance share. */
export interface UDXContext extends ConnectionContext {
  readonly backend: Backend
  readonly linger: Linger
  /** Sockets that are bound, and streams that are not closed, by their id. */
  readonly sockets: Set<UDXSocket>
  readonly streams: Map<number, UDXStream>
  /** Finds the stream that a packet is for. @returns whether there is one. */
  dispatch(socket: UDXSocket, header: Header, packet: Buffer, port: number, host: string): boolean
}

/**
 * UDX: reliable, multiplexed streams over datagrams, wire-compatible with the addon udx-native 1.21 and with the part of its
 * interface that hyperdht uses. Goes into `new HyperDHT({ udx })`.
 */
export class UDX {
  /** For sockets and streams of this instance. */
  readonly context: UDXContext

  constructor(options: UDXOptions = {}) {
    const clock = options.clock ?? createSystemClock()
    const linger = new Linger(clock)
    const streams = new Map<number, UDXStream>()
    this.context = {
      clock,
      turn: new Turn(clock),
      slab: new Slab(),
      backend: options.backend ?? runtimeBackend,
      linger,
      sockets: new Set(),
      streams,
      dispatch(socket, header, packet, port, host) {
        const stream = streams.get(header.id)
        if (stream === undefined) return linger.onPacket(header)
        stream.receive(socket, header, packet, port, host)
        return true
      },
    }
  }

  static isIPv4(host: string): boolean {
    return familyOf(host) === 4
  }

  static isIPv6(host: string): boolean {
    return familyOf(host) === 6
  }

  /** 4, 6, or 0 for what is not an address. */
  static isIP(host: string): Family | 0 {
    return familyOf(host) ?? 0
  }

  createSocket(options: SocketOptions = {}): UDXSocket {
    return new UDXSocket(this, options)
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

  networkInterfaces(): NetworkInterface[] {
    return networkInterfaces()
  }

  watchNetworkInterfaces(onchange?: (interfaces: NetworkInterface[]) => void): NetworkInterfaces {
    const watcher = new NetworkInterfaces(this.context.clock)
    if (onchange !== undefined) watcher.on('change', onchange)
    return watcher.watch()
  }

  /** Asks the system for an address of `host`. `family` 0: either. @throws the system's error (ENOTFOUND). */
  async lookup(host: string, options: { family?: 0 | 4 | 6 } = {}): Promise<{ host: string; family: Family }> {
    const { address, family } = await lookup(host, { family: options.family ?? 0 })
    return { host: address, family: family === 6 ? 6 : 4 }
  }
}
