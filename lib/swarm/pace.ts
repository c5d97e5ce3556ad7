/** By that many requests the window grows while one windowful is answered. */
const GROWTH = 4

/** How many requests may be under way: more while they are answered, half when some are lost. */
export class SendWindow {
  readonly #most: number
  readonly #least: number
  #size: number
  #inFlight = 0
  #shrunkAt = Number.NEGATIVE_INFINITY

  /** @param least and @param most bound the window, in requests; it begins in between */
  constructor([least, most]: readonly [least: number, most: number]) {
    this.#least = least
    this.#most = most
    this.#size = Math.min(least * 2, most)
  }

  get size(): number {
    return Math.floor(this.#size)
  }

  get inFlight(): number {
    return this.#inFlight
  }

  get room(): number {
    return this.size - this.#inFlight
  }

  sent(): void {
    this.#inFlight++
  }

  answered(): void {
    this.#inFlight--
    this.#size = Math.min(this.#size + GROWTH / this.#size, this.#most)
  }

  /** Neither answered nor lost in a way that says something about the network. */
  over(): void {
    this.#inFlight--
  }

  /** A request was lost on the way to a node that lives. Those that were sent together count once. */
  lost(sentAt: number, now: number): void {
    this.#inFlight--
    if (sentAt < this.#shrunkAt) return
    this.#shrunkAt = now
    this.#size = Math.max(this.#size / 2, this.#least)
  }
}

/** Keeps work that comes in pieces to a share of the time of one core. */
export class CpuBudget {
  readonly #share: number
  #freeAt = 0

  /** @param share between 0 and 1 */
  constructor(share: number) {
    this.#share = share
  }

  /** Takes note of work from `start` to `end`. */
  spent(start: number, end: number): void {
    this.#freeAt = end + (end - start) * (1 / this.#share - 1)
  }

  /** Milliseconds until more may be done. */
  pause(now: number): number {
    return Math.max(this.#freeAt - now, 0)
  }
}
