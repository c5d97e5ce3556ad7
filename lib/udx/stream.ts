import b4a from 'b4a'
import { Duplex, type DuplexEvents, Writable } from 'streamx'
import { isPort, requireIPv4 } from './backend.ts'
import { type ConnectionHost, UdxConnection, UdxError } from './connection.ts'
import type { Linger } from './linger.ts'
import type { Route } from './outgoing.ts'
import { FLAG_DESTROY, type Header } from './packet.ts'
import type { UDXSocket } from './socket.ts'

/** Bytes that a writer may be ahead of the network before it is held back, as in the addon. */
const HIGH_WATER_MARK = 256 * 1024

/**
 * Decides on a packet that came in on another socket than the stream's: true drops it. It may connect the stream to where the
 * packet came from. Without a firewall such packets are dropped.
 */
export type Firewall = (socket: UDXSocket, port: number, host: string, family: 4) => boolean

export interface StreamOptions {
  readonly firewall?: Firewall
  /** Number of the first packet, 0 by default. */
  readonly seq?: number
}

interface StreamEvents extends DuplexEvents {
  connect: []
  /** An unordered, unreliable message. */
  message: [bytes: Uint8Array]
  'remote-changed': []
}

/** What a stream uses of the instance that it belongs to. */
export interface StreamHost extends ConnectionHost {
  readonly linger: Linger
  /** Streams that are not closed, by their id. */
  readonly streams: Map<number, UDXStream>
}

type Done = (error: Error | null) => void

/** A caller that waits until the peer has acknowledged all bytes up to an offset of the stream. */
interface Flush {
  readonly offset: number
  readonly resolve: (flushed: boolean) => void
}

/** A UDX stream: reliable bytes in both directions, each of which ends by itself. */
export class UDXStream extends Duplex<StreamEvents> {
  /** By which the peer addresses this end. */
  readonly id: number
  readonly #udx: StreamHost
  readonly #connection: UdxConnection
  readonly #firewall: Firewall | undefined
  #socket: UDXSocket | undefined
  #previousSocket: UDXSocket | undefined
  #changing: PromiseWithResolvers<void> | undefined
  #writeDone: Done | undefined
  #destroyDone: Done | undefined
  #closeError: UdxError | undefined
  /** With ascending offsets. */
  #flushes: Flush[] = []

  constructor(udx: StreamHost, id: number, { firewall, seq = 0 }: StreamOptions = {}) {
    if (udx.streams.has(id)) throw new Error(`stream id ${id} is taken`)
    super({ mapWritable: toBytes, eagerOpen: true })
    udx.linger.forget(id)
    udx.streams.set(id, this)
    this.#udx = udx
    this.id = id
    this.#firewall = firewall
    this.#connection = new UdxConnection(udx, {
      data: (bytes) => this.push(bytes),
      end: () => this.push(null),
      message: (bytes) => this.emit('message', bytes),
      progress: () => this.#onProgress(),
      remoteChanged: () => this.#onRemoteChanged(),
      close: (error) => this.#onClose(error),
    })
    this.#connection.sender.board.startAt(seq)
    // Before any other listener: a socket closes after its streams.
    this.once('close', () => {
      this.#previousSocket?.removeStream(this)
      this.#socket?.removeStream(this)
    })
  }

  get connected(): boolean {
    return this.#route !== undefined
  }

  get socket(): UDXSocket | null {
    return (this.connected ? this.#socket : undefined) ?? null
  }

  get remoteId(): number {
    return this.#connection.route?.remoteId ?? 0
  }

  get remoteHost(): string | null {
    return this.#connection.route?.host ?? null
  }

  get remotePort(): number {
    return this.#connection.route?.port ?? 0
  }

  /** Largest packet in bytes, IP and UDP headers included. */
  get mtu(): number {
    return this.#connection.sender.mtu.size
  }

  /** Bytes in flight. */
  get inflight(): number {
    return this.#connection.sender.board.flight.bytes
  }

  /** Packets that were sent again. */
  get retransmits(): number {
    return this.#connection.sender.retransmits
  }

  /**
   * Connects to the stream `remoteId` at an address. Packets of the peer may have arrived before; its first one has the number
   * `ack`, 0 by default.
   *
   * @throws {Error} if it is connected already
   */
  connect(socket: UDXSocket, remoteId: number, port: number, host = '127.0.0.1', { ack = 0 } = {}): void {
    if (this.#connection.closed || this.destroying) return
    if (this.connected) throw new Error('Already connected')
    const route = toRoute(socket, remoteId, port, host)
    if (ack !== 0) this.#connection.receiver.ack = ack
    this.#socket = socket
    this.#connection.connect(route)
    socket.addStream(this)
    this.emit('connect')
  }

  /**
   * Sends to another address, possibly from another socket, from now on. Resolves when all that went to the old one is
   * acknowledged; until then both sockets are in use. Rejects if the stream closes before that.
   */
  changeRemote(socket: UDXSocket, remoteId: number, port: number, host = '127.0.0.1'): Promise<void> {
    if (this.#changing !== undefined) throw new Error('Remote already changing')
    const previous = this.socket
    if (previous === null) throw new Error('Not yet connected')
    if (socket.udx !== previous.udx) throw new Error('Cannot change to a socket on another UDX instance')
    const route = toRoute(socket, remoteId, port, host)
    if (previous !== socket) this.#previousSocket = previous
    this.#socket = socket
    socket.addStream(this)
    this.#changing = Promise.withResolvers()
    const { promise } = this.#changing
    this.#connection.changeRoute(route)
    return promise
  }

  /** Sends an unordered, unreliable message. @returns whether the system took it. */
  send(bytes: Uint8Array): Promise<boolean> {
    const route = this.#route
    if (route === undefined || this.#socket === undefined) return Promise.resolve(false)
    return this.#socket.send(this.#connection.composeMessage(bytes), route.port, route.host)
  }

  /** Sends an unordered, unreliable message if the stream is connected. */
  trySend(bytes: Uint8Array): void {
    const route = this.#route
    route?.socket.transmit(this.#connection.composeMessage(bytes), route.port, route.host)
  }

  /** Resolves with true once the peer has acknowledged all that has been written, with false if it never will. */
  async flush(): Promise<boolean> {
    if ((await Writable.drained(this)) === false || this.destroying) return false
    const { acknowledged, written } = this.#connection.sender
    if (acknowledged >= written) return true
    return new Promise((resolve) => {
      this.#flushes.push({ offset: written, resolve })
    })
  }

  /** For the instance: a packet for this stream has come in on `socket`. */
  receive(socket: UDXSocket, header: Header, packet: Uint8Array, port: number, host: string): void {
    if (this.#connection.closed) return
    if (this.socket !== socket) {
      if (!isPort(port) || this.#firewall === undefined) return
      if (this.#firewall(socket, port, host, 4)) return
      // As in the addon: what the firewall has started is done first. hyperdht adds listeners for this packet so.
      const [copiedHeader, copy] = [{ ...header }, b4a.from(packet)]
      queueMicrotask(() => this.#accept(copiedHeader, copy))
    } else this.#accept(header, packet)
  }

  /** Ends the stream at once, and the peer's with ECONNRESET. Called again, it stops waiting for the peer soon. */
  override destroy(error?: Error | null): void {
    if (this.destroying) this.#connection.hurry()
    super.destroy(error)
  }

  override _read(done: Done): void {
    this.#connection.resume()
    done(null)
  }

  override _writev(batch: unknown[], done: Done): void {
    if (!this.connected) {
      done(new UdxError('ENOTCONN'))
      return
    }
    const { sender } = this.#connection
    for (const bytes of batch) sender.write(bytes as Uint8Array)
    this.#connection.wake()
    if (sender.backlog <= HIGH_WATER_MARK) done(null)
    else this.#writeDone = done
  }

  override _final(done: Done): void {
    if (!this.connected) {
      done(new UdxError('ENOTCONN'))
      return
    }
    this.#connection.sender.end()
    this.#connection.wake()
    done(null)
  }

  override _predestroy(): void {
    this.#connection.destroy()
    this.#continueWrite()
  }

  override _destroy(done: Done): void {
    if (this.#connection.closed) done(this.#closeError ?? null)
    else if (this.connected) this.#destroyDone = done
    else {
      this.#connection.destroy()
      done(null)
    }
  }

  get #route(): Route | undefined {
    return this.#connection.closed ? undefined : this.#connection.route
  }

  #accept(header: Header, packet: Uint8Array): void {
    if (!this.#connection.closed) this.#connection.onPacket(header, packet, this.#udx.clock.now())
  }

  #continueWrite(): void {
    const done = this.#writeDone
    this.#writeDone = undefined
    done?.(null)
  }

  #onProgress(): void {
    const { sender } = this.#connection
    if (this.#writeDone !== undefined && sender.backlog <= HIGH_WATER_MARK) this.#continueWrite()
    for (let flush = this.#flushes[0]; flush !== undefined; flush = this.#flushes[0]) {
      if (flush.offset > sender.acknowledged) return
      this.#flushes.shift()
      flush.resolve(true)
    }
  }

  #onRemoteChanged(): void {
    const changing = this.#changing
    this.#changing = undefined
    const previous = this.#previousSocket
    this.#previousSocket = undefined
    previous?.removeStream(this)
    changing?.resolve()
    this.emit('remote-changed')
  }

  #onClose(error: UdxError | undefined): void {
    const { streams, linger } = this.#udx
    const { route, sender, receiver } = this.#connection
    streams.delete(this.id)
    if (route !== undefined && error === undefined) {
      const hasEnded = receiver.ended && sender.finished
      linger.add(this.id, route, hasEnded ? 0 : FLAG_DESTROY, sender.board.next, receiver.ack)
    }
    for (const flush of this.#flushes.splice(0)) flush.resolve(false)
    this.#changing?.reject(new Error('Stream is closed'))
    this.#changing = undefined
    this.#closeError = error
    const done = this.#destroyDone
    this.#destroyDone = undefined
    if (done !== undefined) done(error ?? null)
    else if (error !== undefined) this.destroy(error)
  }
}

function toRoute(socket: UDXSocket, remoteId: number, port: number, host: string): Route {
  if (socket.closing) throw new Error('Socket is closed')
  requireIPv4(host)
  if (!isPort(port)) throw new Error(`${port} is not a valid port`)
  if (!socket.bound) socket.bind()
  return { socket, remoteId: remoteId >>> 0, port, host }
}

function toBytes(data: unknown): unknown {
  return typeof data === 'string' ? b4a.from(data) : data
}
