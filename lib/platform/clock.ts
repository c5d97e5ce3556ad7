/** Time as the parts see it that wait, so that tests can make it pass. */
export interface Clock {
  /** Milliseconds that never go back, from any beginning. */
  now(): number
  /** Calls back once, `ms` milliseconds from now; the function that it gives takes that back. */
  after(ms: number, run: () => void): () => void
}

export const systemClock: Clock = {
  now: () => performance.now(),
  after(ms, run) {
    const timer = setTimeout(run, ms)
    return () => clearTimeout(timer)
  },
}
