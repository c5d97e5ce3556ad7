import { MAX_SACK_RANGES } from './packet.ts'
import { seqAdd, seqBefore, seqDiff } from './seq.ts'

/** Bytes that a stream holds for a reader that does not read, and so the window that it offers: what the addon offers. */
export const RECEIVE_CAPACITY = 4 * 1024 * 1024

/**
 * How far ahead of the next expected packet one may be, in packets: the most that the capacity holds of packets of 64 bytes.
 * Bounds the table, whatever numbers a packet claims.
 */
const MAX_AHEAD = 65536

/** What is held above the capacity, as part of it: senders respect the window, give or take what was under way. */
const TOLERANCE = 1.25

const MIN_TABLE = 64

/** Delivered bytes are gathered in blocks before the reader sees them. They grow from the first size to the last, in bytes. */
const FIRST_BLOCK = 4 * 1024
const LAST_BLOCK = 64 * 1024

export interface ReceiverEvents {
  /** Bytes in order. False if the reader has had enough; {@link Receiver.resume} says when it wants more. */
  data(bytes: Buffer): boolean
  /** The end, after the last byte. */
  end(): void
}

type Slot = Buffer | undefined

/**
 * The receiving side of a stream: puts packets into their order, knows which are missing (for SACK) and how much room is left
 * (for the window). What it has acknowledged it never gives up, so the sender can forget it (no reneging, unlike RFC 2018,
 * section 8).
 */
export class Receiver {
  readonly #events: ReceiverEvents
  readonly #capacity: number
  #ack = 0
  #endSeq: number | undefined
  #ended = false
  #wants = true
  /** Packets ahead of `ack`, at their number modulo the size (a power of two). */
  #table: Slot[] = new Array<Slot>(MIN_TABLE).fill(undefined)
  /** What the table holds as ranges [start, end) in flat pairs, ascending: ready to be sent as SACK. */
  readonly #ranges: number[] = []
  #ahead = 0
  /** In order, not yet taken by the reader. */
  #ready: Buffer[] = []
  #readyBytes = 0
  #block: Buffer | undefined
  #blockSize = FIRST_BLOCK
  #blockStart = 0
  #blockEnd = 0

  constructor(events: ReceiverEvents, capacity = RECEIVE_CAPACITY) {
    this.#events = events
    this.#capacity = capacity
  }

  /** Number of the packet that is expected next. */
  get ack(): number {
    return this.#ack
  }

  /** Whether the remote side has ended and all that it sent has arrived. */
  get complete(): boolean {
    return this.#endSeq !== undefined && this.#ack === seqAdd(this.#endSeq, 1)
  }

  /** Whether the reader has been told of the end. */
  get ended(): boolean {
    return this.#ended
  }

  /** Bytes that are held: out of order, or waiting for the reader. */
  get buffered(): number {
    return this.#ahead + this.#unread
  }

  /** Bytes that wait for the reader. */
  get #unread(): number {
    return this.#readyBytes + this.#blockEnd - this.#blockStart
  }

  /** Window to advertise, in bytes: what is really free. */
  get window(): number {
    return Math.max(0, this.#capacity - this.buffered)
  }

  /** Flat pairs [start, end) of what has arrived ahead of `ack`, ascending. */
  get ranges(): readonly number[] {
    return this.#ranges
  }

  /** The expected number that the remote side starts with. To be called before the first packet. */
  startAt(seq: number): void {
    this.#ack = seq >>> 0
  }

  /**
   * Takes a numbered packet; `payload` is copied. Old, doubled and impossible ones are ignored.
   *
   * @returns whether it was new and in order. Everything else calls for an acknowledgement at once.
   */
  accept(seq: number, payload: Buffer, isEnd: boolean): boolean {
    const distance = seqDiff(seq, this.#ack)
    if (distance < 0 || distance >= MAX_AHEAD || this.#ended) return false
    if (this.#endSeq !== undefined && (isEnd ? seq !== this.#endSeq : !seqBefore(seq, this.#endSeq))) return false
    if (distance > 0) {
      this.#hold(seq, payload, isEnd)
      return false
    }
    // What fills a hole is always taken, however much waits behind it.
    if (this.#unread + payload.length > this.#capacity * TOLERANCE) return false
    if (isEnd) {
      // An end below what has already come would cut it off: a forgery or a fault, and ignored.
      if (this.#ranges.length > 0) return false
      this.#endSeq = seq
    }
    this.#append(payload)
    this.#ack = seqAdd(seq, 1)
    if (this.#ranges.length > 0 && this.#ranges[0] === this.#ack) this.#unite()
    return true
  }

  /** Gives the reader what is in order. Called once per turn of the event loop, so that it sees few large pieces. */
  deliver(): void {
    this.#seal()
    while (this.#wants) {
      const bytes = this.#ready.shift()
      if (bytes === undefined) break
      this.#readyBytes -= bytes.length
      this.#wants = this.#events.data(bytes)
    }
    if (this.#ready.length === 0 && this.complete && !this.#ended) {
      this.#ended = true
      this.#events.end()
    }
  }

  /** The reader wants more. */
  resume(): void {
    this.#wants = true
  }

  /** Lets go of all that is held. */
  close(): void {
    this.#ended = true
    this.#wants = false
    this.#table = []
    this.#ranges.length = 0
    this.#ahead = 0
    this.#ready = []
    this.#readyBytes = 0
    this.#block = undefined
    this.#blockStart = 0
    this.#blockEnd = 0
  }

  #hold(seq: number, payload: Buffer, isEnd: boolean): void {
    if (this.buffered + payload.length > this.#capacity * TOLERANCE) return
    const distance = seqDiff(seq, this.#ack)
    if (distance >= this.#table.length) this.#grow(distance + 1)
    const index = seq & (this.#table.length - 1)
    if (this.#table[index] !== undefined) return
    if (isEnd) {
      const last = this.#ranges[this.#ranges.length - 1]
      if (last !== undefined && seqBefore(seqAdd(seq, 1), last)) return
      this.#endSeq = seq
    }
    this.#table[index] = Buffer.from(payload)
    this.#ahead += payload.length
    this.#insertRange(seq)
  }

  /** Takes over what has become in order, up to the next hole. */
  #unite(): void {
    const end = this.#ranges[1] as number
    for (let seq = this.#ack; seq !== end; seq = seqAdd(seq, 1)) {
      const index = seq & (this.#table.length - 1)
      const payload = this.#table[index] as Buffer
      this.#table[index] = undefined
      this.#ahead -= payload.length
      this.#append(payload)
    }
    this.#ack = end
    this.#ranges.splice(0, 2)
  }

  #insertRange(seq: number): void {
    const ranges = this.#ranges
    const next = seqAdd(seq, 1)
    // From the end: packets mostly come in order, behind the last range.
    let i = ranges.length
    while (i > 0 && seqBefore(seq, ranges[i - 2] as number)) i -= 2
    const joinsLeft = i > 0 && ranges[i - 1] === seq
    const joinsRight = i < ranges.length && ranges[i] === next
    if (joinsLeft && joinsRight) ranges.splice(i - 1, 2)
    else if (joinsLeft) ranges[i - 1] = next
    else if (joinsRight) ranges[i] = seq
    else ranges.splice(i, 0, seq, next)
  }

  #grow(needed: number): void {
    let size = this.#table.length
    while (size < needed) size *= 2
    const table = new Array<Slot>(size).fill(undefined)
    for (let i = 0; i < this.#ranges.length; i += 2) {
      for (let seq = this.#ranges[i] as number; seq !== this.#ranges[i + 1]; seq = seqAdd(seq, 1)) {
        table[seq & (size - 1)] = this.#table[seq & (this.#table.length - 1)]
      }
    }
    this.#table = table
  }

  #append(payload: Buffer): void {
    if (payload.length === 0) return
    if (this.#block === undefined || this.#blockEnd + payload.length > this.#block.length) {
      this.#seal()
      this.#block = Buffer.allocUnsafeSlow(Math.max(this.#blockSize, payload.length))
      this.#blockSize = Math.min(LAST_BLOCK, this.#blockSize * 2)
      this.#blockStart = 0
      this.#blockEnd = 0
    }
    payload.copy(this.#block, this.#blockEnd)
    this.#blockEnd += payload.length
  }

  /** Moves what the block has gathered to where the reader takes from. */
  #seal(): void {
    if (this.#block === undefined || this.#blockEnd === this.#blockStart) return
    const bytes = this.#block.subarray(this.#blockStart, this.#blockEnd)
    this.#ready.push(bytes)
    this.#readyBytes += bytes.length
    this.#blockStart = this.#blockEnd
  }
}

/** Which of `ranges` fit into one packet: the lowest ones and, every other time, the highest. */
export function sackWindow(ranges: readonly number[], highest: boolean): { from: number; count: number } {
  const all = ranges.length / 2
  const count = Math.min(all, MAX_SACK_RANGES)
  return { from: highest ? all - count : 0, count }
}
