import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../../lib/platform/clock.ts'

interface Timer {
  readonly at: number
  readonly run: () => void
}

/** A clock that stands still until a test lets time pass. */
export class ManualClock implements Clock {
  #now = 0
  /** Timers in the order in which they were set. */
  readonly #timers = new Set<Timer>()

  now(): number {
    return this.#now
  }

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.#now + ms, run }
    this.#timers.add(timer)
    return () => void this.#timers.delete(timer)
  }

  /** How many timers run. */
  get pending(): number {
    return this.#timers.size
  }

  /** Lets time pass, timer by timer, and lets the work that each timer starts run. */
  async pass(ms: number): Promise<void> {
    const end = this.#now + ms
    await setImmediate()
    for (;;) {
      let due: Timer | undefined
      for (const timer of this.#timers) if (timer.at < (due?.at ?? Number.POSITIVE_INFINITY)) due = timer
      if (due === undefined || due.at > end) break
      this.#now = Math.max(this.#now, due.at)
      this.#timers.delete(due)
      due.run()
      await setImmediate()
    }
    this.#now = end
    await setImmediate()
  }
}
