/** Weights of a new sample, and how many deviations above the mean still are in time: those of RFC 6298. */
const MEAN_WEIGHT = 1 / 8
const DEVIATION_WEIGHT = 1 / 4
const DEVIATIONS = 4
/** Milliseconds that an answer is waited for, at least and at most. Hyperdht itself waits for one second, always. */
const BOUNDS = [1_000, 4_000] as const
/** Milliseconds: far more than any network within a cluster takes. */
export const SLOW = 400

/** How long an answer is to be waited for, learned from those that came: as TCP does it, for all nodes together. */
export class RoundTrip {
  #mean: number | undefined
  #deviation = 0
  /** Answers that came too late are never seen, so every one that is missed doubles the patience until one comes. */
  #patience = 1
  #grownAt = Number.NEGATIVE_INFINITY

  /** Milliseconds. */
  get timeout(): number {
    const expected = (this.#mean ?? 0) + DEVIATIONS * this.#deviation
    return Math.min(Math.max(expected, BOUNDS[0]) * this.#patience, BOUNDS[1])
  }

  /** Whether those who are asked, or this node itself, or what is between, have more to do than they get done. */
  get isSlow(): boolean {
    // One dead node makes for one silence, then somebody else answers.
    return this.#patience > 2 || (this.#mean ?? 0) > SLOW
  }

  answered(sentAt: number, now: number): void {
    const took = now - sentAt
    this.#patience = 1
    if (this.#mean === undefined) {
      this.#mean = took
      this.#deviation = took / 2
      return
    }
    this.#deviation += DEVIATION_WEIGHT * (Math.abs(took - this.#mean) - this.#deviation)
    this.#mean += MEAN_WEIGHT * (took - this.#mean)
  }

  /** Those that were sent together count once. */
  silent(sentAt: number, now: number): void {
    if (sentAt < this.#grownAt) return
    this.#grownAt = now
    this.#patience = Math.min(this.#patience * 2, BOUNDS[1] / BOUNDS[0])
  }
}
