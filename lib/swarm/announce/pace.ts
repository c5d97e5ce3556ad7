import { SLOW } from '../dht/client.ts'

/** The window at the beginning, if its bounds allow: some twenty nodes that all begin at once can be answered. */
const FIRST = 16
/** What is left of the window when nodes fall behind, and by how many requests it grows with each windowful answered after that. */
const SHRINK = 0.5
const GROWTH = 4

/**
 * How many requests may be under way. It doubles with each windowful that is answered, until an answer is late or missing.
 * From then on it halves each time, and grows slowly in between. Late answers come before lost requests, so it shrinks before
 * a queue overflows somewhere. The cause does not matter: where many nodes send to a busy one, only sending less helps.
 */
export class RequestWindow {
  readonly #least: number
  readonly #most: number
  #size: number
  /** Up to this size it grows fast. */
  #threshold = Number.POSITIVE_INFINITY
  #inFlight = 0
  #shrunkAt = Number.NEGATIVE_INFINITY

  /** @param bounds of the window, in requests */
  constructor([least, most]: readonly [least: number, most: number]) {
    this.#least = least
    this.#most = most
    this.#size = Math.min(Math.max(FIRST, least), most)
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

  answered(sentAt: number, now: number): void {
    this.#inFlight--
    if (now - sentAt > SLOW) {
      this.#shrink(sentAt, now)
      return
    }
    const growth = this.#size < this.#threshold ? 1 : GROWTH / this.#size
    this.#size = Math.min(this.#size + growth, this.#most)
  }

  /** There was no answer in time. */
  silent(sentAt: number, now: number): void {
    this.#inFlight--
    this.#shrink(sentAt, now)
  }

  /** At most once in a round trip: requests sent before it shrank last do not count. */
  #shrink(sentAt: number, now: number): void {
    if (sentAt < this.#shrunkAt) return
    this.#shrunkAt = now
    this.#size = Math.max(this.#size * SHRINK, this.#least)
    this.#threshold = this.#size
  }
}
