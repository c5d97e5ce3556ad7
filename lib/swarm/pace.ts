/** What is left of the window after a loss, and by how many requests it grows while a windowful is answered after that. */
const SHRINK = 0.7
const GROWTH = 4

/**
 * How many requests may be under way: twice as many with each windowful that is answered, until one is lost on the way; from
 * then on less, and slowly more.
 */
export class SendWindow {
  readonly #least: number
  readonly #most: number
  #size: number
  /** Up to this size it grows fast. */
  #threshold = Number.POSITIVE_INFINITY
  #inFlight = 0
  #shrunkAt = Number.NEGATIVE_INFINITY

  /** @param bounds of the window, in requests; it begins with the lower one */
  constructor([least, most]: readonly [least: number, most: number]) {
    this.#least = least
    this.#most = most
    this.#size = least
  }

  get size(): number {
    return Math.floor(this.#size)
  }

  /** How many more may be sent. */
  get room(): number {
    return this.size - this.#inFlight
  }

  sent(): void {
    this.#inFlight++
  }

  answered(): void {
    this.#inFlight--
    const growth = this.#size < this.#threshold ? 1 : GROWTH / this.#size
    this.#size = Math.min(this.#size + growth, this.#most)
  }

  /** It is over in a way that says nothing about the network. */
  over(): void {
    this.#inFlight--
  }

  /** A request was lost on the way to a node that lives. Those that were sent together count once. */
  lost(sentAt: number, now: number): void {
    this.#inFlight--
    if (sentAt < this.#shrunkAt) return
    this.#shrunkAt = now
    this.#size = Math.max(this.#size * SHRINK, this.#least)
    this.#threshold = this.#size
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
