import { EventEmitter } from 'node:events'
import type { BindOptions, DatagramSocket } from './backend.ts'
import { type Family, isPort, requireFamily } from './ip.ts'
import { createHeader, type Header, readHeader } from './packet.ts'
import type { UDXStream } from './stream.ts'
import type { TurnTask } from './turn.ts'
import type { UDX } from './udx.ts'

/** Where a socket is bound. */
export interface SocketAddress {
  readonly host: string
  readonly family: Family
  readonly port: number
}

export interface SocketOptions {
  /** Only IPv6 on a socket that is bound to `::`. */
  readonly ipv6Only?: boolean
  /** Several sockets may share the port. */
  readonly reuseAddress?: boolean
}

export interface SocketEvents {
  /** A datagram that belongs to no stream. */
  message: [bytes: Buffer, from: SocketAddress]
  listening: []
  /** The first stream uses the socket; the last one no longer does. */
  busy: []
  idle: []
  close: []
  error: [error: Error]
}

/** A datagram socket that streams share with plain messages. */
export class UDXSocket extends EventEmitter<SocketEvents> implements TurnTask {
  queued = false
  readonly udx: UDX
  /** Streams that use this socket. */
  readonly streams: Set<UDXStream> = new Set()
  /** For the owner's use. */
  userData: unknown = null
  readonly #options: SocketOptions
  readonly #header: Header = createHeader()
  #datagrams: DatagramSocket | undefined
  #address: SocketAddress | undefined
  #closing: Promise<void> | undefined
  #closed = false

  constructor(udx: UDX, options: SocketOptions = {}) {
    super()
    this.udx = udx
    this.#options = options
  }

  get bound(): boolean {
    return this.#address !== undefined
  }

  get closing(): boolean {
    return this.#closing !== undefined
  }

  get idle(): boolean {
    return this.streams.size === 0
  }

  get busy(): boolean {
    return this.streams.size > 0
  }

  address(): SocketAddress | null {
    return this.#address ?? null
  }

  toJSON(): Record<string, unknown> {
    return {
      bound: this.bound,
      closing: this.closing,
      streams: this.streams.size,
      address: this.address(),
      ipv6Only: this.#options.ipv6Only === true,
      reuseAddress: this.#options.reuseAddress === true,
      idle: this.idle,
      busy: this.busy,
    }
  }

  /**
   * Binds at once. Port 0 (the default) is any free one, the default host every IPv4 address.
   *
   * @throws {Error} the system's, with its `code` (EADDRINUSE); or if it is bound or closed already
   */
  bind(port = 0, host = '0.0.0.0'): void {
    if (this.bound) throw new Error('Already bound')
    if (this.closing) throw new Error('Socket is closed')
    const family = requireFamily(host)
    const { ipv6Only = false, reuseAddress = false } = this.#options
    const options: BindOptions = { port, host, ipv6Only, reuseAddress }
    this.#datagrams = this.udx.context.backend.bind(options, {
      message: (bytes, fromPort, fromHost) => this.#onDatagram(bytes, fromPort, fromHost),
      error: (error) => this.#onError(error),
    })
    this.#address = { host, family, port: this.#datagrams.address.port }
    this.udx.context.sockets.add(this)
    this.emit('listening')
  }

  /** Sends a datagram. @returns whether the system took it; false on a closed socket, and for a port that there is not. */
  send(bytes: Uint8Array, port: number, host = '127.0.0.1', ttl = 0): Promise<boolean> {
    const datagrams = this.#ready(port, host)
    if (datagrams === undefined) return Promise.resolve(false)
    return datagrams.sendNow(toBuffer(bytes), port, host, ttl === 0 ? undefined : ttl)
  }

  /** Sends a datagram if that is possible. `ttl` is its time to live in hops, 0 for the default. */
  trySend(bytes: Uint8Array, port: number, host = '127.0.0.1', ttl = 0): void {
    if (ttl !== 0) {
      // Its promise never rejects.
      void this.send(bytes, port, host, ttl)
      return
    }
    const datagrams = this.#ready(port, host)
    if (datagrams === undefined) return
    this.#hand(datagrams, toBuffer(bytes), port, host)
  }

  /** Closes the socket as soon as no stream uses it. Resolves when its port is free. */
  close(): Promise<void> {
    this.#closing ??= new Promise((resolve) => {
      this.once('close', resolve)
    })
    this.#closeIfIdle()
    return this.#closing
  }

  /** For streams: hands a packet over; it leaves at the end of the turn. */
  transmit(bytes: Buffer, port: number, host: string): void {
    if (this.#closed || this.#datagrams === undefined) return
    this.#hand(this.#datagrams, bytes, port, host)
  }

  /** For streams. */
  addStream(stream: UDXStream): void {
    if (this.streams.has(stream)) return
    this.streams.add(stream)
    if (this.streams.size === 1) this.emit('busy')
  }

  /** For streams. */
  removeStream(stream: UDXStream): void {
    if (!this.streams.delete(stream)) return
    if (!this.#closeIfIdle() && this.idle) this.emit('idle')
  }

  /** Hands over what the turn has gathered. */
  run(): void {
    if (!this.#closed) this.#datagrams?.flush?.()
  }

  #hand(datagrams: DatagramSocket, bytes: Buffer, port: number, host: string): void {
    datagrams.send(bytes, port, host)
    // A turn of the event loop for nothing costs as much as the datagram, on Deno.
    if (datagrams.flush !== undefined) this.udx.context.turn.addSocket(this)
  }

  #ready(port: number, host: string): DatagramSocket | undefined {
    if (this.closing) return undefined
    requireFamily(host)
    // Strangers name such ports. What goes there is lost, as on a network.
    if (!isPort(port)) return undefined
    if (!this.bound) this.bind()
    return this.#datagrams
  }

  #onDatagram(bytes: Buffer, port: number, host: string): void {
    if (this.#closed) return
    if (readHeader(bytes, this.#header) && this.udx.context.dispatch(this, this.#header, bytes, port, host)) return
    if (this.listenerCount('message') === 0) return
    // A copy: a runtime may hand out a view of a far larger buffer.
    this.emit('message', Buffer.from(bytes), { host, family: host.includes(':') ? 6 : 4, port })
  }

  #onError(error: Error): void {
    if (this.listenerCount('error') > 0) this.emit('error', error)
  }

  /** @returns whether it is closed, or about to be. */
  #closeIfIdle(): boolean {
    if (this.#closed || this.#closing === undefined || this.busy) return this.#closed
    this.udx.context.linger.takeLeave(this)
    this.#datagrams?.flush?.()
    this.#closed = true
    this.udx.context.sockets.delete(this)
    const closed = this.#datagrams?.close() ?? Promise.resolve()
    void closed.then(() => this.emit('close'))
    return true
  }
}

function toBuffer(bytes: Uint8Array): Buffer {
  return Buffer.isBuffer(bytes) ? bytes : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
