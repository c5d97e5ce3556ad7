/** Time, for code that waits; tests move theirs by hand. */
export interface Clock {
  /** Milliseconds since an arbitrary moment; never goes back. */
  now(): number
  /** Calls `run` once, `ms` milliseconds from now, unless the returned function is called before. */
  after(ms: number, run: () => void): () => void
  /** Milliseconds to add to {@link now} for a clock that all machines of a cluster share; 0 by default. */
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

/** Milliseconds between two beats. */
export const BEAT = 2_000

/**
 * The time of the first beat at `at` or later. Nodes do periodic work at beats: where the clocks of a cluster agree, all nodes
 * send at the same moment, so a node wakes up once to send and to receive.
 */
export function nextBeat({ offset = 0 }: Clock, at: number, beat = BEAT): number {
  return Math.ceil((at + offset) / beat) * beat - offset
}
