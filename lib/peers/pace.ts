/**
 * Shortest and longest hedging delay in milliseconds. A head takes 1 ms within a rack and some 10 ms on a busy node: asking
 * a second peer sooner would double the requests for nothing. A fifth of a second is what a pull of ten blobs can lose to
 * each without anybody noticing.
 */
const HEDGE = { least: 10, most: 200 } as const
/** The delay until anything was measured, in milliseconds. */
const FIRST_HEDGE = 50
/** Measurements that count, of heads and of rates: enough for a 95th percentile, few enough to follow the network's mood. */
const SAMPLES = 64

/** What peers have needed lately, all together. */
export class Pace {
  readonly #heads: number[] = []
  readonly #rates: number[] = []

  /** Milliseconds that a peer needed for a head, or did not suffice for one. */
  addHead(ms: number): void {
    add(this.#heads, ms)
  }

  /** Bytes per millisecond that a peer gave. */
  addRate(rate: number): void {
    add(this.#rates, rate)
  }

  /** What peers usually need: for a head, in milliseconds, and for bytes, in bytes per millisecond, if that is known. */
  get usual(): { readonly head: number; readonly rate: number | undefined } {
    return { head: quantile(this.#heads, 0.5) ?? 1, rate: quantile(this.#rates, 0.5) }
  }

  /**
   * How long to wait for a head before the next peer is asked too, in milliseconds: the 95th percentile of what heads took, so
   * that about one request in twenty is asked twice (Dean and Barroso, "The Tail at Scale", 2013), between the bounds.
   */
  hedgeDelay(): number {
    return Math.min(Math.max(quantile(this.#heads, 0.95) ?? FIRST_HEDGE, HEDGE.least), HEDGE.most)
  }
}

/** The last few measurements count. */
function add(values: number[], value: number): void {
  values.push(value)
  if (values.length > SAMPLES) values.shift()
}

/** The value below which the given part (0 to 1) of the measurements lies; `undefined` without any. */
function quantile(values: readonly number[], part: number): number | undefined {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]
}
