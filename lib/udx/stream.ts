import { Writable } from 'streamx'
import { Connection } from './connection.ts'
import { UdxError } from './error.ts'
import { Flushes } from './flushes.ts'
import { type Family, isPort, requireFamily } from './ip.ts'
import { FLAG_DESTROY, type Header, rewriteId } from './packet.ts'
import type { Route } from './route.ts'
import type { UDXSocket } from './socket.ts'
import { StreamState } from './stream-state.ts'
import type { UDX } from './udx.ts'

/** Bytes that a writer may be ahead of the network before it is held back (that of the addon). */
const HIGH_WATER_MARK = 256 * 1024

/**
 * Decides on a packet that comes from another socket than the stream's: true drops it. May connect the stream to where it
 * comes from. Without one, such packets are dropped.
 */
export type Firewall = (socket: UDXSocket, port: number, host: string, family: Family) => boolean

export interface StreamOptions {
  readonly firewall?: Firewall
  /** The bytes are frames with a length in front. Only a hint in the addon; here all reads are gathered per turn anyway. */
  readonly framed?: boolean
  /** Number of the first packet, if not 0. */
  readonly seq?: number
}

export interface ConnectOptions {
  /** Number of the peer's first packet, if not 0. */
  readonly ack?: number
}

type Done = (error: Error | null) => void

/** A UDX stream: reliable bytes in both directions, each of which ends by itself. */
export class UDXStream extends StreamState {
  readonly udx: UDX
  /** By which the peer addresses this end. */
  readonly id: number
  /** For the owner's use. */
  userData: unknown = null
  protected readonly connection: Connection
  readonly #firewall: Firewall | undefined
  #previousSocket: UDXSocket | undefined
  #changing: { resolve: () => void; reject: (error: Error) => void } | undefined
  #relay: UDXStream | undefined
  readonly #relayed = new Set<UDXStream>()
  #writeDone: Done | undefined
  #destroyDone: Done | undefined
  #closeError: UdxError | undefined
  readonly #flushes = new Flushes()

  constructor(udx: UDX, id: number, options: StreamOptions = {}) {
    const { streams, linger } = udx.context
    if (streams.has(id)) throw new Error(`stream id ${id} is taken`)
    super({ mapWritable: toBytes, eagerOpen: true })
    linger.forget(id)
    streams.set(id, this)
    this.udx = udx
    this.id = id
    this.#firewall = options.firewall
    this.connection = new Connection(udx.context, {
      data: (bytes) => this.push(bytes),
      end: () => this.push(null),
      message: (bytes) => this.emit('message', bytes),
      progress: () => this.#onProgress(),
      remoteChanged: () => this.#onRemoteChanged(),
      close: (error) => this.#onClose(error),
    })
    if (options.seq !== undefined) this.connection.sender.startAt(options.seq)
  }

  /** Connects to the stream `remoteId` at an address. Packets of the peer may have arrived before. @throws if connected. */
  connect(socket: UDXSocket, remoteId: number, port: number, host = '127.0.0.1', options: ConnectOptions = {}): void {
    if (this.connection.closed || this.destroying) return
    if (this.connected) throw new Error('Already connected')
    const route = toRoute(socket, remoteId, port, host)
    if (options.ack !== undefined) this.connection.receiver.startAt(options.ack)
    this.connection.connect(route)
    socket.addStream(this)
    this.emit('connect')
  }

  /**
   * Sends to another address, possibly from another socket, from now on. Resolves when all that went to the old one is
   * acknowledged; until then both sockets are in use. Rejects if the stream closes before.
   */
  changeRemote(socket: UDXSocket, remoteId: number, port: number, host = '127.0.0.1'): Promise<void> {
    if (this.#changing !== undefined) throw new Error('Remote already changing')
    const previous = this.socket
    if (previous === null) throw new Error('Not yet connected')
    if (socket.udx !== this.udx) throw new Error('Cannot change to a socket on another UDX instance')
    const route = toRoute(socket, remoteId, port, host)
    if (previous !== socket) this.#previousSocket = previous
    const changed = new Promise<void>((resolve, reject) => {
      this.#changing = { resolve, reject }
    })
    socket.addStream(this)
    this.connection.changeRoute(route)
    return changed
  }

  /** From now on packets that come for this stream go to the remote of `destination`, as they are. */
  relayTo(destination: UDXStream): void {
    if (this.connection.closed || this.#relay !== undefined || destination.connection.closed) return
    this.#relay = destination
    destination.#relayed.add(this)
  }

  /** Sends an unordered, unreliable message. @returns whether the system took it. */
  send(bytes: Uint8Array): Promise<boolean> {
    const route = this.route
    if (route === undefined) return Promise.resolve(false)
    return route.socket.send(this.connection.sendMessage(bytes), route.port, route.host)
  }

  /** Sends an unordered, unreliable message if that is possible. */
  trySend(bytes: Uint8Array): void {
    const route = this.route
    route?.socket.transmit(this.connection.sendMessage(bytes), route.port, route.host)
  }

  /** Resolves with true once the peer has acknowledged all that has been written, with false if it never will. */
  async flush(): Promise<boolean> {
    if ((await Writable.drained(this)) === false || this.destroying) return false
    const { sender } = this.connection
    if (sender.acknowledged >= sender.written) return true
    return this.#flushes.add(sender.written)
  }

  /** For the instance: a packet for this stream has come in on `socket`. */
  receive(socket: UDXSocket, header: Header, packet: Buffer, port: number, host: string): void {
    if (this.connection.closed) return
    if (this.route?.socket !== socket) {
      if (!isPort(port) || this.#firewall === undefined) return
      if (this.#firewall(socket, port, host, host.includes(':') ? 6 : 4)) return
    }
    if (this.#relay !== undefined) this.#forward(this.#relay, header, packet)
    else this.connection.onPacket(header, packet, this.udx.context.clock.now())
  }

  /** Ends the stream at once, and the peer's with ECONNRESET; or, if both have ended, does not wait much longer for the peer. */
  override destroy(error?: Error | null): void {
    if (this.destroying) this.connection.hurry()
    super.destroy(error)
  }

  override _read(done: Done): void {
    this.connection.resume()
    done(null)
  }

  override _writev(batch: unknown[], done: Done): void {
    if (!this.connected) {
      done(new UdxError('ENOTCONN'))
      return
    }
    const { sender } = this.connection
    for (const bytes of batch) sender.write(bytes as Uint8Array)
    this.connection.wake()
    if (sender.backlog <= HIGH_WATER_MARK) done(null)
    else this.#writeDone = done
  }

  override _final(done: Done): void {
    if (!this.connected) {
      done(new UdxError('ENOTCONN'))
      return
    }
    this.connection.sender.end()
    this.connection.wake()
    done(null)
  }

  override _predestroy(): void {
    this.connection.destroy(this.#relay !== undefined)
    this.#continueWrite()
  }

  override _destroy(done: Done): void {
    if (this.connection.closed) done(this.#closeError ?? null)
    else if (this.connected) this.#destroyDone = done
    else {
      this.connection.destroy(true)
      done(null)
    }
  }

  #forward(relay: UDXStream, header: Header, packet: Buffer): void {
    const route = relay.route
    if (route !== undefined) {
      const copy = Buffer.from(packet)
      rewriteId(copy, route.remoteId)
      route.socket.transmit(copy, route.port, route.host)
    }
    if ((header.flags & FLAG_DESTROY) !== 0) this.connection.reset()
  }

  #continueWrite(): void {
    const done = this.#writeDone
    this.#writeDone = undefined
    done?.(null)
  }

  #onProgress(): void {
    const { sender } = this.connection
    if (this.#writeDone !== undefined && sender.backlog <= HIGH_WATER_MARK) this.#continueWrite()
    if (this.#flushes.waiting) this.#flushes.onAcknowledged(sender.acknowledged)
  }

  #onRemoteChanged(): void {
    const changing = this.#changing
    this.#changing = undefined
    const previous = this.#previousSocket
    this.#previousSocket = undefined
    if (previous !== this.socket) previous?.removeStream(this)
    changing?.resolve()
    this.emit('remote-changed')
  }

  #onClose(error: UdxError | undefined): void {
    const { streams, linger } = this.udx.context
    const { route, sender, receiver } = this.connection
    streams.delete(this.id)
    if (route !== undefined && error === undefined && this.#relay === undefined) {
      linger.add(this.id, route, receiver.ended && sender.finished ? 'ended' : 'destroyed', sender.next, receiver.ack)
    }
    if (this.#relay !== undefined) this.#relay.#relayed.delete(this)
    for (const relayed of this.#relayed) relayed.destroy()
    this.#flushes.close()
    this.#changing?.reject(new Error('Stream is closed'))
    this.#changing = undefined
    this.#previousSocket?.removeStream(this)
    this.#previousSocket = undefined
    route?.socket.removeStream(this)
    this.#closeError = error
    const done = this.#destroyDone
    this.#destroyDone = undefined
    if (done !== undefined) done(error ?? null)
    else if (error !== undefined) this.destroy(error)
  }
}

function toRoute(socket: UDXSocket, remoteId: number, port: number, host: string): Route {
  if (socket.closing) throw new Error('Socket is closed')
  const family = requireFamily(host)
  if (!isPort(port)) throw new Error(`${port} is not a valid port`)
  if (!socket.bound) socket.bind()
  return { socket, remoteId: remoteId >>> 0, port, host, family }
}

function toBytes(data: unknown): unknown {
  return typeof data === 'string' ? Buffer.from(data) : data
}
