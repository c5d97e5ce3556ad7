import { EventEmitter } from 'node:events'
import b4a from 'b4a'
import { type DatagramBackend, type DatagramSocket, DEFAULT_TTL, isPort, requireIPv4 } from './backend.ts'
import type { Turn, TurnTask } from './clock.ts'
import type { Linger } from './linger.ts'
import type { PacketSocket } from './outgoing.ts'
import { createHeader, type Header, readHeader } from './packet.ts'

/** Where a socket is bound, or a datagram came from. */
export interface UdxAddress {
  readonly host: string
  readonly family: 4
  readonly port: number
}

interface SocketEvents {
  /** A datagram that belongs to no stream. */
  message: [bytes: Uint8Array, from: UdxAddress]
  /** The first stream uses the socket; the last one no longer does. */
  busy: []
  idle: []
  close: []
}

/** What a socket uses of the instance that it belongs to. */
export interface SocketHost {
  readonly backend: DatagramBackend
  readonly linger: Linger
  readonly turn: Turn
  packetsReceived: number
  /** Hands a packet to its stream. @returns whether there is one. */
  dispatch(socket: UDXSocket, header: Header, packet: Uint8Array, port: number, host: string): boolean
}

/** A datagram socket that streams share with plain messages. */
export class UDXSocket extends EventEmitter<SocketEvents> implements TurnTask, PacketSocket {
  queued = false
  /** The instance that the socket belongs to. */
  readonly udx: SocketHost
  /** Streams that use this socket. */
  readonly #streams = new Set<unknown>()
  readonly #header = createHeader()
  #datagrams: DatagramSocket | undefined
  #address: UdxAddress | undefined
  #closing: Promise<void> | undefined
  #closed = false

  constructor(udx: SocketHost) {
    super()
    this.udx = udx
  }

  get bound(): boolean {
    return this.#address !== undefined
  }

  get closing(): boolean {
    return this.#closing !== undefined
  }

  /** Whether no stream uses the socket. */
  get idle(): boolean {
    return this.#streams.size === 0
  }

  address(): UdxAddress | null {
    return this.#address ?? null
  }

  /**
   * Binds at once. Port 0 (the default) is any free one, the default host every IPv4 address.
   *
   * @throws {Error} the system's, with its `code` (EADDRINUSE); or if it is bound or closed already
   */
  bind(port = 0, host = '0.0.0.0'): void {
    if (this.bound) throw new Error('Already bound')
    if (this.closing) throw new Error('Socket is closed')
    requireIPv4(host)
    this.#datagrams = this.udx.backend.bind({ port, host }, (bytes, fromPort, fromHost) => {
      try {
        this.#onDatagram(bytes, fromPort, fromHost)
      } catch (error) {
        // A listener has thrown. Bun and Deno would swallow that here, where Node reports an uncaught exception.
        queueMicrotask(() => {
          throw error
        })
      }
    })
    this.#address = { host, family: 4, port: this.#datagrams.port }
  }

  /** Sends a datagram. @returns whether the system took it: false on a closed socket and for an impossible port. */
  send(bytes: Uint8Array, port: number, host = '127.0.0.1', ttl = 0): Promise<boolean> {
    const datagrams = this.#ready(port, host)
    if (datagrams === undefined) return Promise.resolve(false)
    return datagrams.sendNow(bytes, port, host, ttl || DEFAULT_TTL)
  }

  /** Sends a datagram if that is possible. `ttl` is its time to live in hops, 0 for the default. */
  trySend(bytes: Uint8Array, port: number, host = '127.0.0.1', ttl = 0): void {
    const datagrams = this.#ready(port, host)
    if (datagrams === undefined) return
    // Its promise never rejects.
    if (ttl !== 0) void datagrams.sendNow(bytes, port, host, ttl)
    else this.transmit(bytes, port, host)
  }

  /** Closes the socket as soon as no stream uses it. Resolves when its port is free. */
  close(): Promise<void> {
    this.#closing ??= new Promise((resolve) => {
      this.once('close', resolve)
    })
    this.#closeIfIdle()
    return this.#closing
  }

  /** For streams. */
  transmit(bytes: Uint8Array, port: number, host: string): void {
    if (this.#closed || this.#datagrams === undefined) return
    this.#datagrams.send(bytes, port, host, ignore)
    // On Deno an idle turn of the event loop costs as much as the datagram.
    if (this.#datagrams.flush !== undefined) this.udx.turn.addSocket(this)
  }

  /** For streams. */
  addStream(stream: unknown): void {
    if (this.#streams.has(stream)) return
    this.#streams.add(stream)
    if (this.#streams.size === 1) this.emit('busy')
  }

  /** For streams. */
  removeStream(stream: unknown): void {
    if (!this.#streams.delete(stream) || !this.idle) return
    if (this.closing) this.#closeIfIdle()
    else this.emit('idle')
  }

  /** Hands the system what the turn has gathered. */
  run(): void {
    if (!this.#closed) this.#datagrams?.flush?.()
  }

  #ready(port: number, host: string): DatagramSocket | undefined {
    if (this.closing) return undefined
    requireIPv4(host)
    // Other nodes name such ports. What is sent there is lost, as on a network.
    if (!isPort(port)) return undefined
    if (!this.bound) this.bind()
    return this.#datagrams
  }

  #onDatagram(bytes: Uint8Array, port: number, host: string): void {
    if (this.#closed) return
    this.udx.packetsReceived++
    if (readHeader(bytes, this.#header) && this.udx.dispatch(this, this.#header, bytes, port, host)) return
    if (this.listenerCount('message') === 0) return
    // A copy, since the bytes are valid during this call only.
    this.emit('message', b4a.from(bytes), { host, family: 4, port })
  }

  #closeIfIdle(): void {
    if (this.#closed || !this.closing || !this.idle) return
    this.udx.linger.takeLeave(this)
    this.#datagrams?.flush?.()
    this.#closed = true
    const closed = this.#datagrams?.close() ?? Promise.resolve()
    void closed.then(() => this.emit('close'))
  }
}

/** Packets are kept for as long as they may have to be sent again; their memory is not reused. */
function ignore(): undefined {
  return undefined
}
