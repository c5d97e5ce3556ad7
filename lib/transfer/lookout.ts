import type { Clock } from '../platform/clock.ts'
import type { Peer } from '../swarm/router.ts'

/** Milliseconds until peers are looked for again where there were none, at first and at most; doubled each time. */
const FIRST_DELAY = 1_000
const LONGEST_DELAY = 60_000

/** Looks for more peers. Where there were none, that is done again after a while at the earliest. */
export class Lookout {
  readonly #clock: Clock
  readonly #candidate: () => Promise<Peer | undefined>
  readonly #found: (peer: Peer) => void
  readonly #signal: AbortSignal
  #isLooking = false
  #next = 0
  #delay = FIRST_DELAY

  /**
   * @param candidate a peer that is not in use; `undefined` if there is none
   * @param found told of each
   * @param signal ends it
   */
  constructor(
    clock: Clock,
    candidate: () => Promise<Peer | undefined>,
    found: (peer: Peer) => void,
    signal: AbortSignal,
  ) {
    this.#clock = clock
    this.#candidate = candidate
    this.#found = found
    this.#signal = signal
  }

  /** Looks for so many more, unless that is under way. */
  async look(count = 1): Promise<void> {
    if (this.#isLooking || this.#clock.now() < this.#next) return
    this.#isLooking = true
    for (let left = count; left > 0; left--) {
      const peer = await this.#candidate()
      if (this.#signal.aborted) return
      if (peer === undefined) {
        this.#next = this.#clock.now() + this.#delay
        this.#delay = Math.min(this.#delay * 2, LONGEST_DELAY)
        break
      }
      this.#found(peer)
    }
    this.#isLooking = false
  }
}
