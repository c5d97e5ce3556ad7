import { EventEmitter } from 'node:events'
import { isIPv4 } from 'node:net'
import b4a from 'b4a'
import type { DatagramBackend, DatagramSocket } from './backend.ts'

/** The address of a socket, or of the sender of a datagram. */
export interface UdxAddress {
  readonly host: string
  readonly family: 4
  readonly port: number
}

interface SocketEvents {
  /** A datagram that belongs to no stream. */
  message: [bytes: Uint8Array, from: UdxAddress]
  /** `busy`: the first stream uses the socket. `idle`: the last stream no longer does. */
  busy: []
  idle: []
  close: []
}

/** The part of a UDX instance that its sockets use. */
export interface SocketHost {
  readonly backend: DatagramBackend
  /** Passes a datagram to its stream. @returns whether there is one */
  receive(socket: UDXSocket, bytes: Uint8Array, port: number, host: string): boolean
}

/** A datagram socket for streams and plain messages. */
export class UDXSocket extends EventEmitter<SocketEvents> {
  /** The instance that the socket belongs to. */
  readonly udx: SocketHost
  /** Streams that use this socket. */
  readonly #streams = new Set<unknown>()
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
   * Binds synchronously. Port 0 (the default) means any free port; the default host is every IPv4 address.
   *
   * @throws {Error} the system's error with its `code` (EADDRINUSE), or if the socket is bound or closed already
   */
  bind(port = 0, host = '0.0.0.0'): void {
    if (this.bound) throw new Error('Already bound')
    if (this.closing) throw new Error('Socket is closed')
    if (!isIPv4(host)) throw new Error(`${host} is not a valid IP address`)
    this.#datagrams = this.udx.backend.bind({ port, host }, (bytes, fromPort, fromHost) => {
      try {
        this.#onDatagram(bytes, fromPort, fromHost)
      } catch (error) {
        // A listener has thrown. Bun and Deno would swallow the error here, while Node reports an uncaught exception.
        queueMicrotask(() => {
          throw error
        })
      }
    })
    this.#address = { host, family: 4, port: this.#datagrams.port }
  }

  /**
   * Sends a datagram. Other nodes may have given an invalid address; then the datagram is lost, as on a network.
   *
   * @returns whether it could be sent
   */
  trySend(bytes: Uint8Array, port: number, host = '127.0.0.1'): boolean {
    if (this.#closed || !isPort(port) || !isIPv4(host)) return false
    if (!this.bound && !this.closing) this.bind()
    this.#datagrams?.send(bytes, port, host)
    return this.bound
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
  addStream(stream: unknown): void {
    this.#streams.add(stream)
    if (this.#streams.size === 1) this.emit('busy')
  }

  /** For streams. */
  removeStream(stream: unknown): void {
    if (!this.#streams.delete(stream) || !this.idle) return
    if (this.closing) this.#closeIfIdle()
    else this.emit('idle')
  }

  #onDatagram(bytes: Uint8Array, port: number, host: string): void {
    if (this.#closed || this.udx.receive(this, bytes, port, host)) return
    // A copy, since the bytes are valid during this call only.
    if (this.listenerCount('message') > 0) this.emit('message', b4a.from(bytes), { host, family: 4, port })
  }

  #closeIfIdle(): void {
    if (this.#closed || !this.closing || !this.idle) return
    this.#closed = true
    const closed = this.#datagrams?.close() ?? Promise.resolve()
    void closed.then(() => this.emit('close'))
  }
}

/** Whether a datagram can go to that port. */
export function isPort(port: number): boolean {
  return Number.isInteger(port) && port > 0 && port < 65536
}
