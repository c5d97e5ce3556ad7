import b4a from 'b4a'
import { seqAdd, seqDiff } from './packet.ts'

/** How many bytes may wait for a slow reader, and so the window that is offered. */
export const CAPACITY = 64 * 1024

/**
 * How many packets ahead of the next expected one a packet may be. It bounds the packets that are kept, whatever number a
 * packet claims.
 */
const MAX_AHEAD = 64
/** Most bytes of a payload. The addon sends only packets that fit into an Ethernet frame, which are shorter. */
const MAX_PAYLOAD = 1_500

export interface ReceiverEvents {
  /** Called with bytes in order. Returns false if the reader wants no more until {@link Receiver.resume}. */
  data(bytes: Uint8Array): boolean
  /** Called at the end, after the last byte. */
  end(): void
}

interface Packet {
  readonly payload: Uint8Array
  readonly isEnd: boolean
}

/** The receiving side of a stream. It puts packets in order, and keeps them until the reader wants them. */
export class Receiver {
  /** Number of the packet that is expected next. */
  ack = 0
  readonly #events: ReceiverEvents
  /** Packets ahead of `ack`, by their numbers. They are not acknowledged yet. */
  readonly #ahead = new Map<number, Packet>()
  /** Packets in order that the reader has not taken yet. */
  readonly #waiting: Packet[] = []
  #waitingBytes = 0
  #wants = true
  #hasEnd = false

  constructor(events: ReceiverEvents) {
    this.#events = events
  }

  /** The window to advertise: the free room in bytes. */
  get window(): number {
    return CAPACITY - this.#waitingBytes
  }

  /** Takes or drops a numbered packet. A packet is acknowledged once it is in order. */
  accept(seq: number, payload: Uint8Array, isEnd: boolean): void {
    const distance = seqDiff(seq, this.ack)
    if (this.#hasEnd || distance < 0 || distance >= MAX_AHEAD || payload.length > MAX_PAYLOAD) return
    if (!this.#ahead.has(seq)) this.#ahead.set(seq, { payload: b4a.from(payload), isEnd })
    for (let next = this.#ahead.get(this.ack); next !== undefined; next = this.#ahead.get(this.ack)) {
      if (next.payload.length > this.window) break
      this.#ahead.delete(this.ack)
      this.ack = seqAdd(this.ack, 1)
      this.#waiting.push(next)
      this.#waitingBytes += next.payload.length
      if (!next.isEnd) continue
      this.#hasEnd = true
      this.#ahead.clear()
    }
    this.#deliver()
  }

  /** Call this when the reader wants more. */
  resume(): void {
    this.#wants = true
    this.#deliver()
  }

  #deliver(): void {
    while (this.#wants) {
      const packet = this.#waiting.shift()
      if (packet === undefined) return
      const { payload, isEnd } = packet
      this.#waitingBytes -= payload.length
      if (payload.length > 0) this.#wants = this.#events.data(payload)
      if (isEnd) this.#events.end()
    }
  }
}
