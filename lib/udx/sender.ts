import b4a from 'b4a'
import type { Clock } from '../platform/clock.ts'
import { FLAG_DATA, FLAG_END, seqAdd, seqDiff } from './packet.ts'

/**
 * Most bytes of a packet's payload. With all headers and the seal, a packet stays below 1,200 bytes, which every path carries.
 */
const MAX_PAYLOAD = 1_100

/**
 * How many packets may be under way. Members send each other only a few hundred bytes, so nothing has to find the rate of the
 * path.
 */
const MAX_FLIGHT = 16

/**
 * Milliseconds without an answer after which packets are sent again. Each further wait is twice as long, up to the longest one.
 * If a round trip takes longer than the first wait, it only costs needless packets.
 */
const FIRST_WAIT = 250
const DOUBLINGS = 3

/** A peer that has not answered for this many waits is gone: after 15.75 s. */
const MAX_WAITS = 10

export interface SenderEvents {
  /** Sends a numbered packet. */
  send(flags: number, seq: number, payload: Uint8Array): void
  /** Called when all bytes of a write have been sent, or when everything and the end has been acknowledged. */
  done(): void
  /** Called when the peer has not answered for too long. */
  timeout(): void
}

interface Packet {
  readonly flags: number
  readonly payload: Uint8Array
}

/**
 * The sending side of a stream. It cuts bytes into packets, sends a few at a time, and repeats them until they are acknowledged.
 */
export class Sender {
  /** Number of the next packet. */
  next = 0
  readonly #events: SenderEvents
  readonly #clock: Clock
  /** Packets that are sent and not acknowledged, in order. The last one has the number before `next`. */
  readonly #flight: Packet[] = []
  /** Bytes that are in no packet yet. */
  #queue: Uint8Array = b4a.alloc(0)
  #end: 'open' | 'wanted' | 'sent' = 'open'
  /** How many waits there were in a row. */
  #waits = 0
  #cancel: (() => void) | undefined

  constructor(events: SenderEvents, clock: Clock) {
    this.#events = events
    this.#clock = clock
  }

  /** Sends these bytes, and then calls `done`. Do not call it again before that. */
  write(bytes: Uint8Array): void {
    this.#queue = bytes
    this.#pump()
  }

  /** Sends the end, and then calls `done`. */
  end(): void {
    this.#end = 'wanted'
    this.#pump()
  }

  /** Takes an acknowledgement, if it is possible. */
  onAcknowledged(ack: number): void {
    const count = this.#flight.length - seqDiff(this.next, ack)
    if (count <= 0 || count > this.#flight.length) return
    this.#flight.splice(0, count)
    this.#waits = 0
    this.#rest()
    if (this.#end === 'sent' && this.#flight.length === 0) this.#events.done()
    this.#pump()
  }

  /** Sends nothing more. */
  close(): void {
    this.#rest()
    this.#flight.length = 0
    this.#queue = b4a.alloc(0)
    this.#end = 'open'
  }

  #pump(): void {
    while (this.#flight.length < MAX_FLIGHT && (this.#queue.length > 0 || this.#end === 'wanted')) {
      const payload = this.#queue.subarray(0, MAX_PAYLOAD)
      this.#queue = this.#queue.subarray(payload.length)
      const flags = payload.length > 0 ? FLAG_DATA : FLAG_END
      if (flags === FLAG_END) this.#end = 'sent'
      this.#flight.push({ flags, payload })
      this.next = seqAdd(this.next, 1)
      this.#events.send(flags, seqAdd(this.next, -1), payload)
      if (payload.length > 0 && this.#queue.length === 0) this.#events.done()
    }
    if (this.#flight.length > 0) this.#wait()
    else this.#rest()
  }

  #wait(): void {
    const wait = FIRST_WAIT * 2 ** Math.min(this.#waits, DOUBLINGS)
    this.#cancel ??= this.#clock.after(wait, () => {
      this.#cancel = undefined
      if (++this.#waits === MAX_WAITS) return this.#events.timeout()
      const first = this.next - this.#flight.length
      for (const [i, { flags, payload }] of this.#flight.entries()) this.#events.send(flags, seqAdd(first, i), payload)
      this.#wait()
    })
  }

  #rest(): void {
    this.#cancel?.()
    this.#cancel = undefined
  }
}
