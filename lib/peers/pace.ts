/**
 * Shortest and longest hedging delay, in milliseconds. A head takes 1 ms within a rack and some 10 ms on a busy node, so asking
 * a second peer sooner would only double the requests. Nobody notices if each of the ten blobs of a pull loses a fifth of a
 * second.
 */
const HEDGE = { least: 10, most: 200 } as const
/** The delay in milliseconds before anything was measured. */
const FIRST_HEDGE = 50
/**
 * How many measurements of heads and of rates count: enough for a 95th percentile, and few enough to follow changes of the
 * network.
 */
const SAMPLES = 64

/** What all peers together have needed lately. */
export class Pace {
  readonly #heads: number[] = []
  readonly #rates: number[] = []

  /** Adds the milliseconds that a peer needed for a head, or in which it did not send one. */
  addHead(ms: number): void {
    add(this.#heads, ms)
  }

  /** Adds the bytes per millisecond that a peer sent. */
  addRate(rate: number): void {
    add(this.#rates, rate)
  }

  /** What peers usually need for a head, in milliseconds, and their usual rate, in bytes per millisecond, if it is known. */
  get usual(): { readonly head: number; readonly rate: number | undefined } {
    return { head: quantile(this.#heads, 0.5) ?? 1, rate: quantile(this.#rates, 0.5) }
  }

  /**
   * Milliseconds to wait for a head before the next peer is asked too: the 95th percentile of what heads took, within the
   * bounds. So about one request in twenty is sent twice (Dean and Barroso, "The Tail at Scale", 2013).
   */
  hedgeDelay(): number {
    return Math.min(Math.max(quantile(this.#heads, 0.95) ?? FIRST_HEDGE, HEDGE.least), HEDGE.most)
  }
}

/** Adds a value, and drops the oldest one if there are too many. */
function add(values: number[], value: number): void {
  values.push(value)
  if (values.length > SAMPLES) values.shift()
}

/** The value below which the given share (0 to 1) of the measurements lies; `undefined` if there are none. */
function quantile(values: readonly number[], part: number): number | undefined {
  const sorted = values.toSorted((a, b) => a - b)
  return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]
}
