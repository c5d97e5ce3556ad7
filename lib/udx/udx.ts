import { EventEmitter } from 'node:events'
import { isIPv4 } from 'node:net'
import { type Clock, systemClock } from '../platform/clock.ts'
import type { DatagramBackend } from './backend.ts'
import { bunBackend } from './backend-bun.ts'
import { nodeBackend } from './backend-node.ts'
import { readHeader } from './packet.ts'
import { type SocketHost, UDXSocket } from './socket.ts'
import { type Firewall, UDXStream } from './stream.ts'

/** The datagram sockets of this runtime. */
export const runtimeBackend: DatagramBackend = 'Bun' in globalThis ? bunBackend : nodeBackend

export interface UDXOptions {
  /** Time and timers; the runtime's own by default. */
  readonly clock?: Clock
  /** Datagram sockets; those of this runtime by default. */
  readonly backend?: DatagramBackend
}

/**
 * UDX, the transport under Hyperswarm: reliable, multiplexed streams over IPv4 datagrams. Pass it to `new HyperDHT({ udx })`,
 * in place of the addon udx-native, which needs Node. It is compatible with version 1.21 of the addon on the wire, and has the
 * part of its interface that hyperdht uses when nodes connect directly. It is made for the few hundred bytes that members send
 * each other on a connection, and does not hold back a sender whose reader is slow. More bytes arrive correctly, but slowly if
 * packets are lost.
 */
export class UDX implements SocketHost {
  readonly clock: Clock
  readonly backend: DatagramBackend
  /** Streams that are not over, by their id. */
  readonly streams = new Map<number, UDXStream>()

  constructor({ clock = systemClock, backend = runtimeBackend }: UDXOptions = {}) {
    this.clock = clock
    this.backend = backend
  }

  static readonly isIPv4 = isIPv4

  createSocket(): UDXSocket {
    return new UDXSocket(this)
  }

  /**
   * Makes a stream with the local `id` (32 bits, unique in this instance), under which the peer addresses it. It receives at
   * once, and sends as soon as it is connected.
   *
   * @throws {Error} if the id is taken
   */
  createStream(id: number, { firewall }: { readonly firewall?: Firewall } = {}): UDXStream {
    if (this.streams.has(id)) throw new Error(`stream id ${id} is taken`)
    const stream = new UDXStream(id, this.clock, () => this.streams.delete(id), firewall)
    this.streams.set(id, stream)
    return stream
  }

  receive(socket: UDXSocket, packet: Uint8Array, port: number, host: string): boolean {
    const header = readHeader(packet)
    if (header === undefined) return false
    const stream = this.streams.get(header.id)
    if (stream === undefined) return false
    stream.receive(socket, header, packet, port, host)
    return true
  }

  /**
   * No addresses. hyperdht would open a socket at each, and tell all of them to every node that it connects to. Nodes connect at the
   * address that they announce, and a Kubernetes node may have thousands, one for each service.
   */
  networkInterfaces(): [] {
    return []
  }

  /** Watches nothing, because a mirror keeps the address that it was started with. */
  watchNetworkInterfaces(): EventEmitter & { readonly interfaces: []; destroy(): Promise<void> } {
    return Object.assign(new EventEmitter(), { interfaces: this.networkInterfaces(), destroy: () => Promise.resolve() })
  }
}
