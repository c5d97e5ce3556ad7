/** Time for parts that wait; tests have one that they move by hand. */
export interface Clock {
  /** Milliseconds since an arbitrary moment; never goes back. */
  now(): number
  /** Calls `run` once, `ms` milliseconds from now, unless the returned function is called before. */
  after(ms: number, run: () => void): () => void
  /** What {@link now} is behind a clock that the machines of a cluster share, 0 by default. */
  readonly offset?: number
}

export const systemClock: Clock = {
  now: () => performance.now(),
  get offset() {
    return Date.now() - performance.now()
  },
  after(ms, run) {
    const timer = setTimeout(run, ms)
    return () => clearTimeout(timer)
  },
}

/** Milliseconds from one beat to the next. */
export const BEAT = 2_000

/**
 * When the first beat is at that time or after it. A node does at a beat what it does again and again: where the clocks of a cluster
 * agree, it sends all of it, and receives what the others send, at one moment, and wakes up for them once.
 */
export function nextBeat({ offset = 0 }: Clock, at: number, beat = BEAT): number {
  return Math.ceil((at + offset) / beat) * beat - offset
}
