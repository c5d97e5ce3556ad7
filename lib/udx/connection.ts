import b4a from 'b4a'
import type { DatagramBackend } from './backend.ts'
import { Alarm, type Turn, type TurnTask, type UdxClock } from './clock.ts'
import type { Route, Slab } from './outgoing.ts'
import {
  FLAG_DESTROY,
  FLAG_END,
  FLAG_HEARTBEAT,
  FLAG_MESSAGE,
  FLAG_SACK,
  FLAGS_NUMBERED,
  HEADER_SIZE,
  type Header,
  payloadStart,
  refreshHeader,
  seqBefore,
  seqDiff,
  writeHeader,
  writeSacks,
} from './packet.ts'
import { RECEIVE_CAPACITY, Receiver, type ReceiverEvents, sackWindow } from './receiver.ts'
import { Sender } from './sender.ts'

/** Packets that may come in one turn before they are acknowledged in the middle of it. */
const ACK_EVERY = 32

/** Bytes by which the window must grow before a sender that may wait for it is told (silly windows, RFC 9293, 3.8.6.2.2). */
const WINDOW_STEP = RECEIVE_CAPACITY / 4

/** How long a connection that is destroyed while it ends may still wait for the peer's acknowledgement, in milliseconds. */
export const HURRY_TIME = 1_000

const MESSAGES = {
  ECONNRESET: 'connection reset by peer',
  ETIMEDOUT: 'connection timed out',
  ENOTCONN: 'stream is not connected',
} as const

/** Why a stream broke. The codes are those of the addon, on which hyperdht and its users rely. */
export class UdxError extends Error {
  override readonly name = 'UdxError'
  readonly code: keyof typeof MESSAGES

  constructor(code: keyof typeof MESSAGES) {
    super(MESSAGES[code])
    this.code = code
  }
}

/** What a connection uses of the instance that it belongs to. */
export interface ConnectionHost {
  readonly backend: DatagramBackend
  readonly clock: UdxClock
  readonly turn: Turn
  readonly slab: Slab
}

/** What a connection reports to its stream. */
export interface StreamEventSink extends ReceiverEvents {
  message(bytes: Uint8Array): void
  /** Something has been sent or acknowledged: writers and flushes may continue. */
  progress(): void
  remoteChanged(): void
  /** The connection is over; with an error unless both sides have ended, or this side destroyed it. */
  close(error: UdxError | undefined): void
}

/**
 * One end of a UDX stream, without the stream interface: takes packets, acknowledges them, delivers bytes in order, and sends
 * what is written. Does its work at the end of each turn of the event loop.
 */
export class UdxConnection implements TurnTask {
  queued = false
  closed = false
  route: Route | undefined
  readonly sender: Sender
  readonly receiver: Receiver
  readonly #udx: ConnectionHost
  readonly #events: StreamEventSink
  /** Numbered packets that have come since the last acknowledgement. */
  #unanswered = 0
  /** An acknowledgement is due for another reason. */
  #ackWanted = false
  #sackHighest = false
  #advertised = RECEIVE_CAPACITY
  /** Number of the first packet that went to the new remote; undefined if the remote is not changing. */
  #changeSeq: number | undefined
  readonly #hurry: Alarm

  constructor(udx: ConnectionHost, events: StreamEventSink) {
    this.#udx = udx
    this.#events = events
    this.receiver = new Receiver(events)
    this.#hurry = new Alarm(udx.clock, () => this.#close(undefined))
    this.sender = new Sender(
      {
        overhead: udx.backend.overhead,
        compose: (size, flags, dataOffset, seq) => this.#compose(size, flags, dataOffset, seq),
        refresh: (packet) => refreshHeader(packet, this.receiver.window, this.receiver.ack),
        heartbeat: () => this.#sendControl(FLAG_HEARTBEAT),
        wake: () => this.wake(),
        timeout: () => this.#close(new UdxError('ETIMEDOUT')),
      },
      udx.clock,
    )
  }

  connect(route: Route): void {
    this.route = route
    this.sender.setRoute(route)
    this.wake()
  }

  /** Sends to another address from now on. `remoteChanged` follows when all that went to the old one is acknowledged. */
  changeRoute(route: Route): void {
    this.connect(route)
    if (this.sender.board.idle) this.#events.remoteChanged()
    else this.#changeSeq = this.sender.board.next
  }

  /** Works at the end of this turn. */
  wake(): void {
    if (!this.closed) this.#udx.turn.addStream(this)
  }

  resume(): void {
    this.receiver.resume()
    this.wake()
  }

  composeMessage(payload: Uint8Array): Uint8Array {
    const bytes = this.#compose(HEADER_SIZE + payload.length, FLAG_MESSAGE, 0, this.sender.board.next)
    bytes.set(payload, HEADER_SIZE)
    return bytes
  }

  /** Handles a packet for this stream. `packet` is not kept. */
  onPacket(header: Readonly<Header>, packet: Uint8Array, now: number): void {
    const start = payloadStart(header, packet.length)
    if (start < 0) return
    if ((header.flags & FLAG_DESTROY) !== 0) {
      if (!seqBefore(header.seq, this.receiver.ack)) this.#close(new UdxError('ECONNRESET'))
      return
    }
    if ((header.flags & FLAGS_NUMBERED) !== 0) {
      const inOrder = this.receiver.accept(header.seq, packet.subarray(start), (header.flags & FLAG_END) !== 0)
      if (++this.#unanswered >= ACK_EVERY && this.route !== undefined) this.#acknowledge()
      this.#ackWanted ||= !inOrder
      this.wake()
    }
    if ((header.flags & FLAG_HEARTBEAT) !== 0) {
      this.#ackWanted = true
      this.wake()
    }
    if ((header.flags & FLAG_MESSAGE) !== 0) this.#events.message(b4a.from(packet.subarray(start)))
    if (this.closed) return
    if ((header.flags & FLAG_HEARTBEAT) === 0 && this.sender.onPacket(header, packet, now)) {
      this.#checkRemoteChange(header.ack)
      // Writers learn of acknowledgements only at the end of the turn.
      this.wake()
    }
  }

  /** Does the work that has gathered in this turn. */
  run(now: number): void {
    if (this.closed) return
    this.receiver.deliver()
    if (this.closed) return
    this.#events.progress()
    if (this.closed || this.route === undefined) return
    const before = this.sender.board.next
    this.sender.pump(now)
    // Data carries the acknowledgement as well, except for SACK ranges.
    const carried = this.sender.board.next !== before && this.receiver.ranges.length === 0
    const opened = this.#advertised < WINDOW_STEP && this.receiver.window - this.#advertised >= WINDOW_STEP
    if (((this.#unanswered > 0 || this.#ackWanted) && !carried) || opened) this.#acknowledge()
    this.#unanswered = 0
    this.#ackWanted = false
    if (this.sender.finished && this.receiver.ended) this.#close(undefined)
  }

  /** Ends it at once, and tells the peer if it is connected. */
  destroy(): void {
    if (this.closed) return
    this.#sendControl(FLAG_DESTROY)
    this.#close(undefined)
  }

  /** Stops waiting soon for the peer's acknowledgement of the end: an addon that has closed never answers again. */
  hurry(): void {
    if (this.closed || this.#hurry.deadline !== Number.POSITIVE_INFINITY) return
    this.#hurry.set(this.#udx.clock.now() + HURRY_TIME)
  }

  #close(error: UdxError | undefined): void {
    if (this.closed) return
    this.closed = true
    this.#hurry.close()
    this.sender.close()
    this.receiver.close()
    this.#events.close(error)
  }

  #checkRemoteChange(ack: number): void {
    if (this.#changeSeq === undefined || seqDiff(ack, this.#changeSeq) < 0) return
    this.#changeSeq = undefined
    this.#events.remoteChanged()
  }

  #compose(size: number, flags: number, dataOffset: number, seq: number): Uint8Array {
    const { window: rwnd, ack } = this.receiver
    this.#advertised = rwnd
    const bytes = this.#udx.slab.take(size)
    writeHeader(bytes, { flags, dataOffset, id: this.route?.remoteId ?? 0, rwnd, seq, ack })
    return bytes
  }

  #sendControl(flags: number): void {
    const route = this.route
    if (route === undefined) return
    route.socket.transmit(this.#compose(HEADER_SIZE, flags, 0, this.sender.board.next), route.port, route.host)
  }

  #acknowledge(): void {
    const route = this.route
    if (route === undefined) return
    this.#unanswered = 0
    const { ranges } = this.receiver
    if (ranges.length === 0) {
      this.#sendControl(0)
      return
    }
    const { from, count } = sackWindow(ranges, this.#sackHighest)
    this.#sackHighest = !this.#sackHighest
    const bytes = this.#compose(HEADER_SIZE + count * 8, FLAG_SACK, 0, this.sender.board.next)
    writeSacks(bytes, ranges, from, count)
    route.socket.transmit(bytes, route.port, route.host)
  }
}
