import type { Clock } from '../platform/clock.ts'

export interface LatenessDependencies {
  readonly clock: Clock
  /** Bytes per millisecond below which a peer is slow. */
  readonly leastRate: () => number
  /** Called repeatedly while the client waits for a silent or slow peer. */
  readonly onLate: () => void
}

/**
 * Milliseconds that a client waits for a peer in vain before the peer is late. TCP repeats a lost packet after 200 ms at least,
 * and a node without a free processor may pause as long. With a shorter time, such peers would be taken for dead.
 */
export const LATE = 300

/**
 * Watches with one timer how long a client waits for a peer. The waiting time is the peer's debt, which bytes pay off at the
 * least rate: it grows while none come, and more slowly while too few do. Time in which the client wants no bytes does not
 * count.
 */
export class Lateness {
  readonly #dependencies: LatenessDependencies
  /** When the client began to wait for a byte, if it waits for one. */
  #wantedSince: number | undefined
  /** Since when it is the present peer's turn. */
  #turnedAt: number
  #owed = 0
  #cancelTimer: (() => void) | undefined

  constructor(dependencies: LatenessDependencies) {
    this.#dependencies = dependencies
    this.#turnedAt = dependencies.clock.now()
  }

  /** Call this when the client wants a byte, since that time. */
  begin(since: number): void {
    this.#wantedSince = since
    if (this.#cancelTimer === undefined) this.#arm(LATE - this.#debt)
  }

  /** Call this when bytes have come. @returns milliseconds for which the client has waited for them */
  came(bytes: number): number {
    const { waiting } = this
    this.#owed = Math.max(this.#debt - bytes / this.#dependencies.leastRate(), 0)
    this.#wantedSince = undefined
    return waiting
  }

  /** Call this when another piece begins. Its peer, perhaps another one, owes nothing. */
  turn(): void {
    this.#owed = 0
    this.#turnedAt = this.#dependencies.clock.now()
  }

  close(): void {
    this.#wantedSince = undefined
    this.#cancelTimer?.()
  }

  /** Milliseconds for which the client has waited for its next byte; 0 if it wants none. */
  get waiting(): number {
    return this.#wantedSince === undefined ? 0 : this.#dependencies.clock.now() - this.#wantedSince
  }

  /** The part of that for which the client has waited for the present peer. */
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
      // A client that rests starts the timer again when it goes on.
      if (this.#wantedSince === undefined) return
      this.#arm(this.isLate ? LATE : LATE - this.#debt)
      if (this.isLate) this.#dependencies.onLate()
    })
  }
}
