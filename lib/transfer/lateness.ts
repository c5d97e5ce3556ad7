import type { Clock } from '../platform/clock.ts'
import type { PieceRequest } from './givers.ts'

export interface LatenessDependencies {
  readonly clock: Clock
  /** What the client waits for at this moment, if for anything. */
  readonly awaited: () => Pick<PieceRequest, 'askedAt' | 'isOpen'> | undefined
  /** Bytes per millisecond below which a peer is slow. */
  readonly leastRate: () => number
  /** Told that the client waits for a peer that is silent or slow, again and again as long as it does. */
  readonly onLate: () => void
}

/** What has come by some time, and for how many milliseconds the client has waited for it, in all. */
interface Progress {
  readonly at: number
  readonly bytes: number
  readonly waited: number
}

/**
 * Milliseconds without a byte after which a peer is late, and over which its rate is judged. TCP sends again what was lost
 * after 200 ms at least, and a node without a free processor may rest as long; sooner, each of them would be taken for dead.
 */
export const LATE = 300
/** Bytes per millisecond that nearly fill a link of 1 Gbit/s: more peers would only cost processor time. */
const ENOUGH = 80_000
/** Milliseconds over which that is measured at least: the first pieces are small, and round trips make them slow. */
const MEASURED = 50
const NOTHING: Progress = { at: 0, bytes: 0, waited: 0 }

/** Watches, with one timer, how long a client waits for bytes. The time in which it does not want any never counts. */
export class Lateness {
  readonly #dependencies: LatenessDependencies
  /** When the client began to wait for the byte that it wants, if it wants one. */
  #wantedSince: number | undefined
  #bytes = 0
  #waited = 0
  /** What had come when the present giver was last judged, and when all were last judged together. */
  #window = NOTHING
  #measured: Progress
  #cancelTimer: (() => void) | undefined

  constructor(dependencies: LatenessDependencies) {
    this.#dependencies = dependencies
    this.#measured = this.#since(NOTHING)
  }

  /** The client has wanted a byte since that time. */
  begin(since: number): void {
    this.#wantedSince = since
    if (this.#cancelTimer !== undefined) return
    this.#window = this.#since(NOTHING)
    this.#arm(LATE)
  }

  /** So many bytes have come. @returns milliseconds for which the client has waited for them */
  came(bytes: number): number {
    const { waiting } = this
    this.#waited += waiting
    this.#bytes += bytes
    this.#wantedSince = undefined
    return waiting
  }

  /** What comes now is another piece: its rate is judged anew. */
  turn(): void {
    this.#window = this.#since(NOTHING)
  }

  /**
   * How many peers would fill the client's link, by what came since the last answer; `undefined` if that was too little to
   * say, or if the client is the one that is slow.
   *
   * @param giving how many there are
   */
  needed(giving: number): number | undefined {
    const { at: ms, bytes, waited } = this.#since(this.#measured)
    if (ms < MEASURED) return undefined
    this.#measured = this.#since(NOTHING)
    return waited < ms / 2 ? undefined : Math.ceil((giving * ENOUGH * ms) / bytes)
  }

  close(): void {
    this.#wantedSince = undefined
    this.#cancelTimer?.()
  }

  /** Milliseconds for which the client has waited for the byte that it wants; 0 if it wants none. */
  get waiting(): number {
    return this.#wantedSince === undefined ? 0 : this.#now - this.#wantedSince
  }

  /** Milliseconds for which the peer that the client waits for has been silent; 0 if it waits for none. */
  get silence(): number {
    const awaited = this.#dependencies.awaited()
    if (this.#wantedSince === undefined || awaited === undefined) return 0
    return this.#now - (awaited.isOpen ? Math.max(this.#wantedSince, awaited.askedAt) : awaited.askedAt)
  }

  get #now(): number {
    return this.#dependencies.clock.now()
  }

  #since(before: Progress): Progress {
    return {
      at: this.#now - before.at,
      bytes: this.#bytes - before.bytes,
      waited: this.#waited + this.waiting - before.waited,
    }
  }

  #arm(ms: number): void {
    this.#cancelTimer = this.#dependencies.clock.after(ms, () => {
      this.#cancelTimer = undefined
      // A client that rests wakes the timer when it goes on.
      if (this.#wantedSince !== undefined) this.#look()
    })
  }

  #look(): void {
    const { leastRate, onLate } = this.#dependencies
    const { silence } = this
    this.#arm(silence >= LATE ? LATE : LATE - silence)
    const { at, bytes, waited } = this.#since(this.#window)
    if (silence < LATE && at < LATE) return
    this.#window = this.#since(NOTHING)
    if (silence >= LATE || (waited >= LATE / 2 && bytes < leastRate() * waited)) onLate()
  }
}
