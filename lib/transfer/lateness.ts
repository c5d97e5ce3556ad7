import type { Clock } from '../platform/clock.ts'

export interface LatenessDependencies {
  readonly clock: Clock
  /** Bytes per millisecond below which a peer is slow. */
  readonly leastRate: () => number
  /** Told that the client waits for a peer that is silent or slow, again and again as long as it does. */
  readonly onLate: () => void
}

/**
 * For how long, in milliseconds, a client waits for a peer in vain before that is late. TCP sends again what was lost after
 * 200 ms at least, and a node without a free processor may rest as long; sooner, each of them would be taken for dead.
 */
export const LATE = 300

/**
 * Watches, with one timer, how long a client waits for a peer. The time in which it waits is a debt of the peer, which bytes
 * pay off at the least rate: it grows while nothing comes, and more slowly while too little does. The time in which the client
 * wants nothing never counts.
 */
export class Lateness {
  readonly #dependencies: LatenessDependencies
  /** When the client began to wait for the byte that it wants, if it wants one. */
  #wantedSince: number | undefined
  /** Since when it is the turn of whoever gives now. */
  #turnedAt: number
  #owed = 0
  #cancelTimer: (() => void) | undefined

  constructor(dependencies: LatenessDependencies) {
    this.#dependencies = dependencies
    this.#turnedAt = dependencies.clock.now()
  }

  /** The client has wanted a byte since that time. */
  begin(since: number): void {
    this.#wantedSince = since
    if (this.#cancelTimer === undefined) this.#arm(LATE - this.#debt)
  }

  /** So many bytes have come. @returns milliseconds for which the client has waited for them */
  came(bytes: number): number {
    const { waiting } = this
    this.#owed = Math.max(this.#debt - bytes / this.#dependencies.leastRate(), 0)
    this.#wantedSince = undefined
    return waiting
  }

  /** What comes now is another piece, of another peer perhaps, which owes nothing. */
  turn(): void {
    this.#owed = 0
    this.#turnedAt = this.#dependencies.clock.now()
  }

  close(): void {
    this.#wantedSince = undefined
    this.#cancelTimer?.()
  }

  /** Milliseconds for which the client has waited for the byte that it wants; 0 if it wants none. */
  get waiting(): number {
    return this.#wantedSince === undefined ? 0 : this.#dependencies.clock.now() - this.#wantedSince
  }

  /** The part of that for which it has waited for the one whose turn it is. */
  get silence(): number {
    return Math.min(this.waiting, this.#dependencies.clock.now() - this.#turnedAt)
  }

  get isLate(): boolean {
    return this.#debt >= LATE
  }

  get #debt(): number {
    return this.#owed + this.silence
  }

  #arm(ms: number): void {
    this.#cancelTimer = this.#dependencies.clock.after(Math.ceil(ms), () => {
      this.#cancelTimer = undefined
      // A client that rests wakes the timer when it goes on.
      if (this.#wantedSince === undefined) return
      this.#arm(this.isLate ? LATE : LATE - this.#debt)
      if (this.isLate) this.#dependencies.onLate()
    })
  }
}
