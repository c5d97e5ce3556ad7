import b4a from 'b4a'
import { MAX_SACK_RANGES, SeqRing, seqAdd, seqBefore, seqDiff } from './packet.ts'

/** Bytes that a stream holds for a reader that does not read, and therefore the window that it offers, as in the addon. */
export const RECEIVE_CAPACITY = 4 * 1024 * 1024

/**
 * How far ahead of the next expected packet one may be, in packets: as many as the capacity holds with 64 bytes each. Bounds
 * what is held, whatever number a packet claims.
 */
const MAX_AHEAD = 65536

/** Bytes that are held at most, as a multiple of the capacity: senders respect the window, give or take what was under way. */
const TOLERANCE = 1.25

/** Bytes are gathered in blocks before the reader gets them. The size of a block grows from the first to the last, in bytes. */
const FIRST_BLOCK = 4 * 1024
const LAST_BLOCK = 64 * 1024

export interface ReceiverEvents {
  /** Bytes in order. Returns false if the reader wants no more until {@link Receiver.resume}. */
  data(bytes: Uint8Array): boolean
  /** The end, after the last byte. */
  end(): void
}

/**
 * The receiving side of a stream: puts packets in order, knows which are missing (for SACK) and how much room is left (for the
 * window). It keeps whatever it has acknowledged, so the sender can forget it (no reneging, unlike RFC 2018, section 8).
 */
export class Receiver {
  /** Number of the packet that is expected next. To be set before the first one, if that is not 0. */
  ack = 0
  /** Whether the reader has got the end. */
  ended = false
  /** Which packets are held ahead of `ack`: ranges [start, end) in flat ascending pairs, ready to be sent as SACK. */
  readonly ranges: number[] = []
  readonly #events: ReceiverEvents
  readonly #capacity: number
  #endSeq: number | undefined
  #wants = true
  /** Payloads of packets ahead of `ack`. */
  readonly #held = new SeqRing<Uint8Array>()
  /** Bytes of the packets ahead of `ack`. */
  #ahead = 0
  /** In order, not yet taken by the reader. */
  #ready: Uint8Array[] = []
  #readyBytes = 0
  #block: Uint8Array | undefined
  #blockSize = FIRST_BLOCK
  #blockStart = 0
  #blockEnd = 0

  constructor(events: ReceiverEvents, capacity = RECEIVE_CAPACITY) {
    this.#events = events
    this.#capacity = capacity
  }

  /** Bytes that are held: out of order, or waiting for the reader. */
  get buffered(): number {
    return this.#ahead + this.#unread
  }

  /** Bytes that wait for the reader. */
  get #unread(): number {
    return this.#readyBytes + this.#blockEnd - this.#blockStart
  }

  /** Window to advertise, in bytes: the room that is really free. */
  get window(): number {
    return Math.max(0, this.#capacity - this.buffered)
  }

  /** Takes a numbered packet. @returns whether it was new and in order; otherwise an acknowledgement is due at once. */
  accept(seq: number, payload: Uint8Array, isEnd: boolean): boolean {
    const distance = seqDiff(seq, this.ack)
    if (distance < 0 || distance >= MAX_AHEAD || this.ended) return false
    if (this.#endSeq !== undefined && (isEnd ? seq !== this.#endSeq : !seqBefore(seq, this.#endSeq))) return false
    if (distance > 0) {
      this.#hold(seq, payload, isEnd)
      return false
    }
    // What fills a hole is always taken, however much waits behind it.
    if (this.#unread + payload.length > this.#capacity * TOLERANCE) return false
    if (isEnd) {
      // An end before data that has already come would cut that off. It is forged or faulty, and ignored.
      if (this.ranges.length > 0) return false
      this.#endSeq = seq
    }
    this.#append(payload)
    this.ack = seqAdd(seq, 1)
    if (this.ranges.length > 0 && this.ranges[0] === this.ack) this.#unite()
    return true
  }

  /** Gives the reader what is in order. Called once per turn of the event loop, so that it gets few large pieces. */
  deliver(): void {
    this.#finishBlock()
    while (this.#wants) {
      const bytes = this.#ready.shift()
      if (bytes === undefined) break
      this.#readyBytes -= bytes.length
      this.#wants = this.#events.data(bytes)
    }
    const isComplete = this.#endSeq !== undefined && this.ack === seqAdd(this.#endSeq, 1)
    if (this.#ready.length === 0 && isComplete && !this.ended) {
      this.ended = true
      this.#events.end()
    }
  }

  /** The reader wants more. */
  resume(): void {
    this.#wants = true
  }

  /** Drops all that is held. */
  close(): void {
    this.ended = true
    this.#wants = false
    this.#held.clear()
    this.ranges.length = 0
    this.#ahead = 0
    this.#ready = []
    this.#readyBytes = 0
    this.#block = undefined
    this.#blockStart = 0
    this.#blockEnd = 0
  }

  #hold(seq: number, payload: Uint8Array, isEnd: boolean): void {
    if (this.buffered + payload.length > this.#capacity * TOLERANCE) return
    const last = this.ranges.at(-1)
    if (isEnd && last !== undefined && seqBefore(seqAdd(seq, 1), last)) return
    if (!this.#held.set(seq, b4a.from(payload), this.ack)) return
    if (isEnd) this.#endSeq = seq
    this.#ahead += payload.length
    this.#insertRange(seq)
  }

  /** Appends what is in order now, up to the next hole. */
  #unite(): void {
    const end = this.ranges[1] as number
    for (let seq = this.ack; seq !== end; seq = seqAdd(seq, 1)) {
      const payload = this.#held.get(seq) as Uint8Array
      this.#held.delete(seq)
      this.#ahead -= payload.length
      this.#append(payload)
    }
    this.ack = end
    this.ranges.splice(0, 2)
  }

  #insertRange(seq: number): void {
    const ranges = this.ranges
    const next = seqAdd(seq, 1)
    // From the end, since most packets come in order, behind the last range.
    let i = ranges.length
    while (i > 0 && seqBefore(seq, ranges[i - 2] as number)) i -= 2
    const joinsLeft = i > 0 && ranges[i - 1] === seq
    const joinsRight = i < ranges.length && ranges[i] === next
    if (joinsLeft && joinsRight) ranges.splice(i - 1, 2)
    else if (joinsLeft) ranges[i - 1] = next
    else if (joinsRight) ranges[i] = seq
    else ranges.splice(i, 0, seq, next)
  }

  #append(payload: Uint8Array): void {
    if (payload.length === 0) return
    if (this.#block === undefined || this.#blockEnd + payload.length > this.#block.length) {
      this.#finishBlock()
      this.#block = b4a.allocUnsafeSlow(Math.max(this.#blockSize, payload.length))
      this.#blockSize = Math.min(LAST_BLOCK, this.#blockSize * 2)
      this.#blockStart = 0
      this.#blockEnd = 0
    }
    this.#block.set(payload, this.#blockEnd)
    this.#blockEnd += payload.length
  }

  /** Makes what the block has gathered ready for the reader. */
  #finishBlock(): void {
    if (this.#block === undefined || this.#blockEnd === this.#blockStart) return
    const bytes = this.#block.subarray(this.#blockStart, this.#blockEnd)
    this.#ready.push(bytes)
    this.#readyBytes += bytes.length
    this.#blockStart = this.#blockEnd
  }
}

/** Which of `ranges` go into one packet: the lowest that fit, or the highest. */
export function sackWindow(ranges: readonly number[], highest: boolean): { from: number; count: number } {
  const all = ranges.length / 2
  const count = Math.min(all, MAX_SACK_RANGES)
  return { from: highest ? all - count : 0, count }
}
