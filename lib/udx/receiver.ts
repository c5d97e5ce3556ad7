import b4a from 'b4a'
import { seqAdd, seqDiff } from './packet.ts'

/**
 * How many packets ahead of the next expected one a packet may be. It bounds the packets that are kept, whatever number a
 * packet claims.
 */
const MAX_AHEAD = 64
/** Most bytes of a payload. The addon sends only packets that fit into an Ethernet frame, which are shorter. */
const MAX_PAYLOAD = 1_500

export interface ReceiverEvents {
  /** Called with bytes in order. */
  data(bytes: Uint8Array): void
  /** Called at the end, after the last byte. */
  end(): void
}

interface Packet {
  readonly payload: Uint8Array
  readonly isEnd: boolean
}

/** The receiving side of a stream. It puts packets in order. */
export class Receiver {
  /** Number of the packet that is expected next. */
  ack = 0
  readonly #events: ReceiverEvents
  /** Packets ahead of `ack`, by their numbers. They are not acknowledged yet. */
  readonly #ahead = new Map<number, Packet>()
  #hasEnd = false

  constructor(events: ReceiverEvents) {
    this.#events = events
  }

  /** Takes or drops a numbered packet. A packet is acknowledged once it is in order. */
  accept(seq: number, payload: Uint8Array, isEnd: boolean): void {
    const distance = seqDiff(seq, this.ack)
    if (this.#hasEnd || distance < 0 || distance >= MAX_AHEAD || payload.length > MAX_PAYLOAD) return
    if (!this.#ahead.has(seq)) this.#ahead.set(seq, { payload: b4a.from(payload), isEnd })
    for (let next = this.#ahead.get(this.ack); next !== undefined; next = this.#ahead.get(this.ack)) {
      this.#ahead.delete(this.ack)
      this.ack = seqAdd(this.ack, 1)
      if (next.payload.length > 0) this.#events.data(next.payload)
      if (!next.isEnd) continue
      this.#hasEnd = true
      this.#ahead.clear()
      this.#events.end()
    }
  }
}
