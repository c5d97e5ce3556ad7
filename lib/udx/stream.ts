import { isIPv4 } from 'node:net'
import b4a from 'b4a'
import { Duplex, type DuplexEvents } from 'streamx'
import type { Clock } from '../platform/clock.ts'
import {
  createPacket,
  FLAG_DESTROY,
  FLAG_END,
  FLAG_HEARTBEAT,
  FLAG_MESSAGE,
  FLAGS_NUMBERED,
  type Header,
  payloadOf,
  seqAdd,
  seqDiff,
} from './packet.ts'
import { Sender } from './sender.ts'
import { isPort, type UDXSocket } from './socket.ts'

/** Why a stream broke. The codes are the addon's, on which hyperdht and its users rely. */
const MESSAGES = {
  ECONNRESET: 'connection reset by peer',
  ETIMEDOUT: 'connection timed out',
  ENOTCONN: 'stream is not connected',
} as const
type Code = keyof typeof MESSAGES

/** The way of a stream's packets: from which socket, to which address, and to which stream there. */
export interface Route {
  readonly socket: UDXSocket
  readonly remoteId: number
  readonly port: number
  readonly host: string
}

/**
 * Decides about a packet that came in on another socket than the stream's: true drops it. It may connect the stream to the
 * packet's sender. Without a firewall such packets are dropped.
 */
export type Firewall = (socket: UDXSocket, port: number, host: string, family: 4) => boolean

interface StreamEvents extends DuplexEvents {
  connect: []
  /** An unordered, unreliable message. */
  message: [bytes: Uint8Array]
}

type Done = (error: Error | null) => void

/** A UDX stream: reliable bytes in both directions, which end independently, and unreliable messages. */
export class UDXStream extends Duplex<StreamEvents> {
  /** The id under which the peer addresses this end. */
  readonly id: number
  readonly #onOver: () => void
  readonly #firewall: Firewall | undefined
  readonly #sender: Sender
  /**
   * The number of the packet that is expected next. Packets ahead of it are dropped and come again: a sender here repeats all that is
   * not acknowledged, and few are ever under way.
   */
  #ack = 0
  /** Whether the end of the peer has come. */
  #isEnded = false
  #route: Route | undefined
  /** The callback of the write, or the end, under way. */
  #done: Done | undefined
  /** Whether the stream is over: nothing is sent or received any more. */
  #over = false

  /** @param onOver called once, when the stream is over */
  constructor(id: number, clock: Clock, onOver: () => void, firewall: Firewall | undefined) {
    super({ eagerOpen: true })
    this.id = id
    this.#onOver = onOver
    this.#firewall = firewall
    this.#sender = new Sender(
      {
        send: (flags, seq, payload) => this.#transmit(this.#compose(flags, payload, seq)),
        done: () => this.#continue(),
        timeout: () => this.#fail('ETIMEDOUT'),
      },
      clock,
    )
    // This listener comes first, because a socket closes after its streams.
    this.once('close', () => this.#route?.socket.removeStream(this))
  }

  get connected(): boolean {
    return this.#route !== undefined
  }

  get socket(): UDXSocket | null {
    return this.#route?.socket ?? null
  }

  get remoteHost(): string | null {
    return this.#route?.host ?? null
  }

  get remotePort(): number {
    return this.#route?.port ?? 0
  }

  /**
   * Connects to the stream `remoteId` at an address. Packets of the peer may have arrived already.
   *
   * @throws {Error} if the stream is connected already, or the address is invalid. It is a plain Error, as with the addon:
   *   hyperdht takes a TypeError or RangeError for its own mistake and ends the process, but addresses come from other nodes.
   */
  connect(socket: UDXSocket, remoteId: number, port: number, host = '127.0.0.1'): void {
    if (this.destroying) return
    if (this.connected) throw new Error('Already connected')
    if (socket.closing) throw new Error('Socket is closed')
    if (!isIPv4(host)) throw new Error(`${host} is not a valid IP address`)
    if (!isPort(port)) throw new Error(`${port} is not a valid port`)
    if (!socket.bound) socket.bind()
    this.#route = { socket, remoteId: remoteId >>> 0, port, host }
    socket.addStream(this)
    if (this.#ack !== 0) this.#transmit(this.#compose(0))
    this.emit('connect')
  }

  /** Refused. hyperdht calls it only after a detour through a third node, which a member may propose but no node accepts. */
  changeRemote(): Promise<never> {
    return Promise.reject(new Error('The remote of a stream does not change'))
  }

  /** Sends an unordered, unreliable message if the stream is connected. */
  trySend(bytes: Uint8Array): void {
    if (!this.#over) this.#transmit(this.#compose(FLAG_MESSAGE, bytes))
  }

  /** Called by the instance with a packet for this stream that came in on `socket`. The stream does not keep `packet`. */
  receive(socket: UDXSocket, header: Header, packet: Uint8Array, port: number, host: string): void {
    if (socket !== this.socket) {
      if (this.#firewall === undefined || !isPort(port) || this.#firewall(socket, port, host, 4)) return
    }
    const payload = payloadOf(packet)
    if (payload === undefined || this.#over) return
    const { flags, seq, ack } = header
    if ((flags & FLAG_DESTROY) !== 0) {
      if (seqDiff(seq, this.#ack) >= 0) this.#fail('ECONNRESET')
      return
    }
    const isNumbered = (flags & FLAGS_NUMBERED) !== 0
    if (isNumbered && seq === this.#ack && !this.#isEnded) this.#accept(payload, (flags & FLAG_END) !== 0)
    if ((flags & FLAG_HEARTBEAT) === 0) this.#sender.onAcknowledged(ack)
    if (isNumbered || (flags & FLAG_HEARTBEAT) !== 0) this.#transmit(this.#compose(0))
    if ((flags & FLAG_MESSAGE) !== 0) this.emit('message', b4a.from(payload))
  }

  override _writev(batch: unknown[], done: Done): void {
    const bytes = b4a.concat(batch as Uint8Array[])
    if (bytes.length === 0) done(null)
    else if (this.#begins(done)) this.#sender.write(bytes)
  }

  override _final(done: Done): void {
    if (this.#begins(done)) this.#sender.end()
  }

  override _predestroy(): void {
    this.#transmit(this.#compose(FLAG_DESTROY))
    this.#leave()
  }

  override _destroy(done: Done): void {
    this.#leave()
    done(null)
  }

  /** Takes the packet that is expected next. */
  #accept(payload: Uint8Array, isEnd: boolean): void {
    this.#ack = seqAdd(this.#ack, 1)
    if (payload.length > 0) this.push(b4a.from(payload))
    if (!isEnd) return
    this.#isEnded = true
    this.push(null)
  }

  #fail(code: Code): void {
    this.#leave()
    this.destroy(errorOf(code))
  }

  /** Ends the stream. If the peer misses that, it gives up in time. */
  #leave(): void {
    if (this.#over) return
    this.#over = true
    this.#onOver()
    this.#sender.close()
    this.#continue()
  }

  /** Whether something can be sent. `done` is called when it has been sent, or at once if nothing can be sent. */
  #begins(done: Done): boolean {
    if (this.connected && !this.#over) this.#done = done
    else done(this.connected ? null : errorOf('ENOTCONN'))
    return this.#done === done
  }

  #continue(): void {
    const done = this.#done
    this.#done = undefined
    done?.(null)
  }

  #compose(flags: number, payload?: Uint8Array, seq = this.#sender.next): Uint8Array {
    return createPacket({ flags, id: this.#route?.remoteId ?? 0, seq, ack: this.#ack }, payload)
  }

  #transmit(packet: Uint8Array): void {
    const route = this.#route
    if (route === undefined || this.#over) return
    route.socket.trySend(packet, route.port, route.host)
  }
}

function errorOf(code: Code): Error {
  return Object.assign(new Error(MESSAGES[code]), { code })
}
