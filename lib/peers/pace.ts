import { Samples } from './samples.ts'

/** Shortest and longest hedging delay in milliseconds. */
export interface HedgeBounds {
  readonly least: number
  readonly most: number
}

/** What peers usually need: for a head, in milliseconds, and for bytes, in bytes per millisecond, if that is known. */
export interface Usual {
  readonly head: number
  readonly rate: number | undefined
}

/**
 * A head takes 1 ms within a rack and some 10 ms on a busy node: asking a second peer sooner would double the requests
 * for nothing. A fifth of a second is what a pull of ten blobs can lose to each without anybody noticing.
 */
const HEDGE: HedgeBounds = { least: 10, most: 200 }
/** The delay until anything was measured, in milliseconds. */
const FIRST_HEDGE = 50
/** Measurements that count, of heads and of rates: enough for a 95th percentile, few enough to follow the network's mood. */
const SAMPLES = 64
/** Rates below which nobody can say what is usual. */
const LEAST_RATES = 4

/** What peers have needed lately, all together. */
export class Pace {
  readonly #hedge: HedgeBounds
  readonly #heads = new Samples(SAMPLES)
  readonly #rates = new Samples(SAMPLES)

  constructor(hedge: HedgeBounds = HEDGE) {
    this.#hedge = hedge
  }

  /** Milliseconds that a peer needed for a head, or did not suffice for one. */
  addHead(ms: number): void {
    this.#heads.add(ms)
  }

  /** Bytes per millisecond that a peer gave. */
  addRate(rate: number): void {
    this.#rates.add(rate)
  }

  get usual(): Usual {
    return { head: this.#heads.quantile(0.5) ?? 1, rate: this.#rates.quantile(0.5) }
  }

  /**
   * The 95th percentile of what heads took, so that about one request in twenty is asked twice (Dean and Barroso, "The Tail
   * at Scale", 2013), between the bounds.
   */
  hedgeDelay(): number {
    const delay = this.#heads.quantile(0.95) ?? FIRST_HEDGE
    return Math.min(Math.max(delay, this.#hedge.least), this.#hedge.most)
  }

  usualRate(): number | undefined {
    return this.#rates.size < LEAST_RATES ? undefined : this.#rates.quantile(0.5)
  }
}
