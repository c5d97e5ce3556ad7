import * as v from 'valibot'
import { readDocument, writeDocument } from './document.ts'
import type { Logger } from './log.ts'

/** Milliseconds of one bar: small enough to find a rollout by the clock, and 144 of them fit side by side on a phone. */
const INTERVAL = 600_000
/** How many are kept: a day, so that what happened at night is there in the morning. */
const KEPT = 144

const count = v.pipe(v.number(), v.finite(), v.minValue(0))
const COUNTS = v.object({
  /** Bytes from peers, from this node's own store, and from upstream. */
  peer: count,
  local: count,
  upstream: count,
  /** Bytes given to other nodes. */
  given: count,
  /** Transfers that broke off or were corrupt. */
  failures: count,
})
const BARS = v.pipe(v.array(v.strictTuple([v.pipe(v.number(), v.safeInteger()), COUNTS])), v.maxLength(KEPT))

/** What happened, in numbers that only grow. */
export type Counts = v.InferOutput<typeof COUNTS>

/** What happened in the last day. */
export interface HistoryStatus {
  /** Milliseconds of one bar, and how many bars there are up to now. */
  readonly interval: number
  readonly kept: number
  /** Those in which anything happened: how many bars ago, the present one being 0, and what. */
  readonly bars: readonly (readonly [ago: number, counts: Counts])[]
}

export interface HistoryDependencies {
  /** What has happened since the start of this program. */
  readonly look: () => Promise<Counts>
  /** The file that keeps it over restarts; in memory if missing. */
  readonly path: string | undefined
  readonly log: Logger
  /** Milliseconds since 1970. */
  readonly now?: () => number
}

/**
 * What happened in the last day, in bars of ten minutes. It looks once for each bar and when it is asked; a file is written
 * at the end of a bar in which something happened.
 */
export class History {
  readonly #dependencies: Required<HistoryDependencies>
  /** By their number since 1970. */
  readonly #bars: Map<number, Counts>
  #last: Counts = { peer: 0, local: 0, upstream: 0, given: 0, failures: 0 }
  #lookedAt: number
  #isChanged = false
  #timer: ReturnType<typeof setTimeout> | undefined
  /** Looks follow each other: each counts what is new since the one before. */
  #looking: Promise<void> = Promise.resolve()

  private constructor(dependencies: Required<HistoryDependencies>, bars: Iterable<readonly [number, Counts]>) {
    this.#dependencies = dependencies
    this.#bars = new Map(bars)
    this.#lookedAt = dependencies.now()
    this.#wait()
  }

  /** @throws the system's error if there is a file that cannot be read */
  static async open({ now = Date.now, ...dependencies }: HistoryDependencies): Promise<History> {
    const { path, log } = dependencies
    const bars = path === undefined ? undefined : await readDocument(path, BARS, log)
    return new History({ ...dependencies, now }, bars ?? [])
  }

  async status(): Promise<HistoryStatus> {
    await this.#look()
    const present = barOf(this.#dependencies.now())
    const bars = [...this.#bars].map(([bar, counts]) => [present - bar, counts] as const)
    return { interval: INTERVAL, kept: KEPT, bars: bars.filter(([ago]) => ago >= 0 && ago < KEPT) }
  }

  /** Looks a last time, and writes the file. */
  async close(): Promise<void> {
    clearTimeout(this.#timer)
    await this.#look()
    await this.#write()
  }

  /** Looks when the present bar is over. */
  #wait(): void {
    const { now, log } = this.#dependencies
    this.#timer = setTimeout(
      () => {
        this.#wait()
        this.#look()
          .then(() => this.#write())
          .catch((error) => log.error('history not updated', { error }))
      },
      INTERVAL - (now() % INTERVAL),
    )
    this.#timer.unref()
  }

  #look(): Promise<void> {
    this.#looking = this.#looking.catch(() => undefined).then(() => this.#count())
    return this.#looking
  }

  async #count(): Promise<void> {
    const { look, now } = this.#dependencies
    const counts = await look()
    // What happened since the last look was in the bar that it was in, since every bar ends with one.
    const bar = barOf(this.#lookedAt)
    const before = this.#bars.get(bar)
    const grown = combined(counts, this.#last, (a, b) => Math.max(a - b, 0))
    this.#last = counts
    this.#lookedAt = now()
    if (Object.values(grown).every((value) => value === 0)) return
    this.#isChanged = true
    this.#bars.set(bar, before === undefined ? grown : combined(before, grown, (a, b) => a + b))
    const oldest = barOf(this.#lookedAt) - KEPT
    for (const old of this.#bars.keys()) if (old <= oldest) this.#bars.delete(old)
  }

  async #write(): Promise<void> {
    const { path, log } = this.#dependencies
    if (path === undefined || !this.#isChanged) return
    this.#isChanged = false
    try {
      await writeDocument(path, [...this.#bars].slice(-KEPT))
    } catch (error) {
      // The mirror works without, and the next bar is written again.
      this.#isChanged = true
      log.warn('cannot write the history', { path, error })
    }
  }
}

function barOf(time: number): number {
  return Math.floor(time / INTERVAL)
}

function combined(some: Counts, others: Counts, combine: (a: number, b: number) => number): Counts {
  const { peer, local, upstream, given, failures } = some
  return {
    peer: combine(peer, others.peer),
    local: combine(local, others.local),
    upstream: combine(upstream, others.upstream),
    given: combine(given, others.given),
    failures: combine(failures, others.failures),
  }
}
