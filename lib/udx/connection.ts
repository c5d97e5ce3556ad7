import { Alarm, type Clock } from './clock.ts'
import { UdxError } from './error.ts'
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
  writeHeader,
  writeSacks,
} from './packet.ts'
import { RECEIVE_CAPACITY, Receiver, sackWindow } from './receiver.ts'
import type { Route } from './route.ts'
import { Sender } from './sender.ts'
import { seqBefore, seqDiff } from './seq.ts'
import type { Slab } from './slab.ts'
import type { Turn, TurnTask } from './turn.ts'

/** Packets that may come in one turn before they are acknowledged in the middle of it. */
const ACK_EVERY = 32

/** Window growth worth telling a sender that may be waiting for it, in bytes (silly window avoidance, RFC 9293, 3.8.6.2.2). */
const WINDOW_STEP = RECEIVE_CAPACITY / 4

/** How long a connection that is to be destroyed while it ends may still wait for the peer's acknowledgement, in ms. */
export const HURRY_TIME = 1_000

/** What a connection needs from the instance that it belongs to. */
export interface ConnectionContext {
  readonly clock: Clock
  readonly turn: Turn
  readonly slab: Slab
}

/** What a connection tells its stream. */
export interface ConnectionEvents {
  /** Bytes in order; false if the reader has had enough. */
  data(bytes: Buffer): boolean
  end(): void
  message(bytes: Buffer): void
  /** Something has been sent or acknowledged: writers and flushes may go on. */
  progress(): void
  remoteChanged(): void
  /** The connection is over; `error` unless both sides have ended, or this side destroyed it. */
  close(error: UdxError | undefined): void
}

/**
 * One end of a UDX stream, without the stream: takes packets, acknowledges them, hands out bytes in order, and sends what it is
 * given. Does its work at the end of each turn of the event loop.
 */
export class Connection implements TurnTask {
  queued = false
  readonly sender: Sender
  readonly receiver: Receiver
  readonly #context: ConnectionContext
  readonly #events: ConnectionEvents
  readonly #header: Header = { flags: 0, dataOffset: 0, id: 0, rwnd: 0, seq: 0, ack: 0 }
  #route: Route | undefined
  /** Numbered packets that have come since the last acknowledgement, and whether one is due though none has. */
  #unanswered = 0
  #ackWanted = false
  #sackHighest = false
  #advertised = RECEIVE_CAPACITY
  /** Number from which on packets have gone to the new remote; undefined if it is not changing. */
  #changeSeq: number | undefined
  readonly #hurry: Alarm
  #closed = false

  constructor(context: ConnectionContext, events: ConnectionEvents) {
    this.#context = context
    this.#events = events
    this.receiver = new Receiver(events)
    this.#hurry = new Alarm(context.clock, () => this.#close(undefined))
    const connection = this
    this.sender = new Sender(
      {
        compose: (size, flags, dataOffset, seq) => this.#compose(size, flags, dataOffset, seq),
        get advertised() {
          return { rwnd: connection.receiver.window, ack: connection.receiver.ack }
        },
        transmit: (bytes, route) => route.socket.transmit(bytes, route.port, route.host),
        heartbeat: () => this.#sendControl(FLAG_HEARTBEAT),
        wake: () => this.wake(),
        timeout: () => this.#close(new UdxError('ETIMEDOUT')),
      },
      context.clock,
    )
  }

  get closed(): boolean {
    return this.#closed
  }

  get route(): Route | undefined {
    return this.#route
  }

  connect(route: Route): void {
    this.#route = route
    this.sender.setRoute(route)
    this.wake()
  }

  /** Sends to another address from now on. `remoteChanged` follows when all that went to the old one is acknowledged. */
  changeRoute(route: Route): void {
    this.#route = route
    this.sender.setRoute(route)
    if (this.sender.idle) this.#events.remoteChanged()
    else this.#changeSeq = this.sender.next
    this.wake()
  }

  /** Works at the end of this turn. */
  wake(): void {
    if (!this.#closed) this.#context.turn.addStream(this)
  }

  /** The reader wants more. */
  resume(): void {
    this.receiver.resume()
    this.wake()
  }

  sendMessage(payload: Uint8Array): Buffer {
    const bytes = this.#compose(HEADER_SIZE + payload.length, FLAG_MESSAGE, 0, this.sender.next)
    bytes.set(payload, HEADER_SIZE)
    return bytes
  }

  /** Handles a packet that is for this stream. `packet` is not kept. */
  onPacket(header: Readonly<Header>, packet: Buffer, now: number): void {
    const start = payloadStart(header, packet.length)
    if (start < 0) return
    const before = this.receiver.ack
    if ((header.flags & FLAG_DESTROY) !== 0) {
      if (!seqBefore(header.seq, before)) this.#close(new UdxError('ECONNRESET'))
      return
    }
    if ((header.flags & FLAGS_NUMBERED) !== 0) {
      const inOrder = this.receiver.accept(header.seq, packet.subarray(start), (header.flags & FLAG_END) !== 0)
      if (++this.#unanswered >= ACK_EVERY && this.#route !== undefined) this.#acknowledge()
      this.#ackWanted ||= !inOrder
      this.wake()
    }
    if ((header.flags & FLAG_HEARTBEAT) !== 0) {
      this.#ackWanted = true
      this.wake()
    }
    if ((header.flags & FLAG_MESSAGE) !== 0) this.#events.message(Buffer.from(packet.subarray(start)))
    if (this.#closed) return
    if ((header.flags & FLAG_HEARTBEAT) === 0 && this.sender.onPacket(header, packet, now)) {
      this.sender.onHeard()
      this.#checkRemoteChange(header.ack)
      // Only here do acknowledgements reach the writers; they go on at the end of the turn.
      this.wake()
    }
  }

  /** Does what has gathered in this turn. */
  run(now: number): void {
    if (this.#closed) return
    this.receiver.deliver()
    if (this.#closed) return
    this.#events.progress()
    if (this.#closed || this.#route === undefined) return
    const before = this.sender.next
    this.sender.pump(now)
    // Data carries the acknowledgement as well, except for SACK ranges.
    const carried = this.sender.next !== before && this.receiver.ranges.length === 0
    const opened = this.#advertised < WINDOW_STEP && this.receiver.window - this.#advertised >= WINDOW_STEP
    if (((this.#unanswered > 0 || this.#ackWanted) && !carried) || opened) this.#acknowledge()
    this.#unanswered = 0
    this.#ackWanted = false
    if (this.sender.finished && this.receiver.ended) this.#close(undefined)
  }

  /** Ends it at once, and tells the peer so if it is connected (and `silent` is not asked for). */
  destroy(silent: boolean): void {
    if (this.#closed) return
    if (this.#route !== undefined && !silent) this.#sendControl(FLAG_DESTROY)
    this.#close(undefined)
  }

  /**
   * Both sides have ended, and only the peer's acknowledgement of that is missing: does not wait for it much longer. An addon
   * that has closed never answers again.
   */
  hurry(): void {
    if (this.#closed || this.#hurry.deadline !== Number.POSITIVE_INFINITY) return
    this.#hurry.set(this.#context.clock.now() + HURRY_TIME)
  }

  /** Ends it as if the peer had reset it: a relay has seen the peer do so. */
  reset(): void {
    this.#close(new UdxError('ECONNRESET'))
  }

  #close(error: UdxError | undefined): void {
    if (this.#closed) return
    this.#closed = true
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

  #compose(size: number, flags: number, dataOffset: number, seq: number): Buffer {
    const header = this.#header
    header.flags = flags
    header.dataOffset = dataOffset
    header.id = this.#route?.remoteId ?? 0
    header.rwnd = this.receiver.window
    header.seq = seq
    header.ack = this.receiver.ack
    this.#advertised = header.rwnd
    const bytes = this.#context.slab.take(size)
    writeHeader(bytes, header)
    return bytes
  }

  #sendControl(flags: number): void {
    const route = this.#route
    if (route === undefined) return
    route.socket.transmit(this.#compose(HEADER_SIZE, flags, 0, this.sender.next), route.port, route.host)
  }

  #acknowledge(): void {
    const route = this.#route
    if (route === undefined) return
    this.#unanswered = 0
    const { ranges } = this.receiver
    if (ranges.length === 0) {
      this.#sendControl(0)
      return
    }
    const { from, count } = sackWindow(ranges, this.#sackHighest)
    this.#sackHighest = !this.#sackHighest
    const bytes = this.#compose(HEADER_SIZE + count * 8, FLAG_SACK, 0, this.sender.next)
    writeSacks(bytes, ranges, from, count)
    route.socket.transmit(bytes, route.port, route.host)
  }
}
