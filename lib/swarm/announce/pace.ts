import { SLOW } from '../dht/client.ts'

/** The window at the start, if its bounds allow it. One node can answer some twenty nodes that start at once. */
const FIRST = 16
/**
 * The factor by which the window shrinks when nodes fall behind, and the requests by which it then grows with each windowful of
 * answers.
 */
const SHRINK = 0.5
const GROWTH = 4

/**
 * How many requests may be under way. The window doubles with each windowful of answers until an answer is late or missing.
 * After that it halves each time, and grows slowly in between. Answers are late before requests are lost, so it shrinks before
 * a queue overflows. The cause does not matter: if many nodes send to a busy one, only sending less helps.
 */
export class RequestWindow {
  readonly #least: number
  readonly #most: number
  #size: number
  /** Up to this size the window doubles. */
  #threshold = Number.POSITIVE_INFINITY
  #inFlight = 0
  #shrunkAt = Number.NEGATIVE_INFINITY

  /** @param bounds the least and the most requests of the window */
  constructor([least, most]: readonly [least: number, most: number]) {
    this.#least = least
    this.#most = most
    this.#size = Math.min(Math.max(FIRST, least), most)
  }

  get size(): number {
    return Math.floor(this.#size)
  }

  /** How many more requests may be sent. */
  get room(): number {
    return this.size - this.#inFlight
  }

  sent(): void {
    this.#inFlight++
  }

  /**
   * Call this when a request is over. The window shrinks at most once per round trip: requests that were sent before the last time
   * do not count.
   */
  ended(sentAt: number, now: number, isAnswered: boolean): void {
    this.#inFlight--
    if (isAnswered && now - sentAt <= SLOW) {
      const growth = this.#size < this.#threshold ? 1 : GROWTH / this.#size
      this.#size = Math.min(this.#size + growth, this.#most)
    } else if (sentAt >= this.#shrunkAt) {
      this.#shrunkAt = now
      this.#size = Math.max(this.#size * SHRINK, this.#least)
      this.#threshold = this.#size
    }
  }
}
