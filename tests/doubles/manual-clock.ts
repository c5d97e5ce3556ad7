import { setImmediate } from 'node:timers/promises'
import type { Clock } from '../../lib/platform/clock.ts'

/** A clock that stands still until a test lets time pass. */
export class ManualClock implements Clock {
  #now = 0
  #timers: { readonly at: number; readonly run: () => void }[] = []

  now(): number {
    return this.#now
  }

  after(ms: number, run: () => void): () => void {
    const timer = { at: this.#now + ms, run }
    this.#timers.push(timer)
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer)
    }
  }

  /** How many timers run. */
  get pending(): number {
    return this.#timers.length
  }

  /** Lets time pass, timer by timer, with what follows from each. */
  async pass(ms: number): Promise<void> {
    const end = this.#now + ms
    await setImmediate()
    for (;;) {
      const due = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at)[0]
      if (due === undefined) break
      this.#now = Math.max(this.#now, due.at)
      this.#timers = this.#timers.filter((timer) => timer !== due)
      due.run()
      await setImmediate()
    }
    this.#now = end
    await setImmediate()
  }
}
