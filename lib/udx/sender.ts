import b4a from 'b4a'
import type { Clock } from '../platform/clock.ts'
import { FLAG_DATA, FLAG_END, seqAdd, seqDiff } from './packet.ts'

/** Bytes of a packet's payload at most. With all headers and a seal it has less than 1,200, which every path carries. */
const MAX_PAYLOAD = 1_100

/** Packets under way at most. Members send each other a few hundred bytes, so nothing searches for the rate of the path. */
const MAX_FLIGHT = 16

/**
 * Milliseconds without an answer after which packets are sent again. Each time in a row it takes twice as long, up to the
 * longest wait. A round trip that takes longer than the first wait costs needless packets and no more.
 */
const FIRST_WAIT = 250
const DOUBLINGS = 3

/** A peer that has answered nothing for so many waits is gone. */
const MAX_WAITS = 10

/** Milliseconds after which a peer that answers nothing is given up: 0.25 + 0.5 + 1, and then 2 s seven times. */
export const GIVE_UP_TIME = Array.from({ length: MAX_WAITS }, (_, i) => waitOf(i)).reduce((sum, wait) => sum + wait)

function waitOf(before: number): number {
  return FIRST_WAIT * 2 ** Math.min(before, DOUBLINGS)
}

export interface SenderEvents {
  /** Sends a numbered packet. */
  send(flags: number, seq: number, payload: Uint8Array): void
  /** Asks the peer, which has no room, whether it has some again. */
  heartbeat(): void
  /** All that was given has been sent, or all of it and the end been acknowledged. */
  done(): void
  /** The peer has not answered for too long. */
  timeout(): void
}

interface Packet {
  readonly flags: number
  readonly payload: Uint8Array
}

/** The sending side of a stream: cuts bytes into packets, sends them as the peer has room, and again until it has them. */
export class Sender {
  /** Number of the next packet. */
  next = 0
  readonly #events: SenderEvents
  readonly #clock: Clock
  /** Sent and not acknowledged, in order; the last one has the number before `next`. */
  readonly #flight: Packet[] = []
  #flightBytes = 0
  /** What no packet carries yet. */
  #queue: Uint8Array = b4a.alloc(0)
  #end: 'open' | 'wanted' | 'sent' = 'open'
  /** Bytes that the peer has room for. It says so with its first packet. */
  #room = Number.POSITIVE_INFINITY
  /** Waits in a row. */
  #waits = 0
  #cancel: (() => void) | undefined

  constructor(events: SenderEvents, clock: Clock) {
    this.#events = events
    this.#clock = clock
  }

  /** Sends these bytes. `done` follows; until then there must be no others. */
  write(bytes: Uint8Array): void {
    this.#queue = bytes
    this.#pump()
  }

  /** Sends the end. `done` follows. */
  end(): void {
    this.#end = 'wanted'
    this.#pump()
  }

  /** Takes an acknowledgement, if it can be true, and the window that comes with it. */
  onAcknowledged(ack: number, room: number): void {
    const count = this.#flight.length - seqDiff(this.next, ack)
    if (count < 0 || count > this.#flight.length) return
    this.#room = room
    if (count > 0) {
      for (const { payload } of this.#flight.splice(0, count)) this.#flightBytes -= payload.length
      this.#waits = 0
      this.#rest()
      if (this.#end === 'sent' && this.#flight.length === 0) this.#events.done()
    } else if (this.#flight.length === 0) {
      // It lives, though it has no room: it is asked on, and no more often.
      this.#waits = Math.min(this.#waits, DOUBLINGS)
    }
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
      const payload = this.#queue.subarray(0, Math.max(0, Math.min(MAX_PAYLOAD, this.#room - this.#flightBytes)))
      if (payload.length === 0 && this.#queue.length > 0) break
      this.#queue = this.#queue.subarray(payload.length)
      const flags = payload.length > 0 ? FLAG_DATA : FLAG_END
      if (flags === FLAG_END) this.#end = 'sent'
      this.#flight.push({ flags, payload })
      this.#flightBytes += payload.length
      this.next = seqAdd(this.next, 1)
      this.#events.send(flags, seqAdd(this.next, -1), payload)
      if (payload.length > 0 && this.#queue.length === 0) this.#events.done()
    }
    if (this.#flight.length > 0 || this.#queue.length > 0) this.#wait()
    else this.#rest()
  }

  #wait(): void {
    this.#cancel ??= this.#clock.after(waitOf(this.#waits), () => {
      this.#cancel = undefined
      if (++this.#waits === MAX_WAITS) return this.#events.timeout()
      const first = this.next - this.#flight.length
      for (const [i, { flags, payload }] of this.#flight.entries()) this.#events.send(flags, seqAdd(first, i), payload)
      if (this.#flight.length === 0) this.#events.heartbeat()
      this.#wait()
    })
  }

  #rest(): void {
    this.#cancel?.()
    this.#cancel = undefined
  }
}
