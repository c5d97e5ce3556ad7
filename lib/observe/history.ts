import * as v from 'valibot'
import { readDocument, writeDocument } from './document.ts'
import type { Logger } from './log.ts'

/** Milliseconds per bar: short enough to find a rollout by its time, and the 144 bars of a day fit on a phone. */
const INTERVAL = 600_000
/** How many bars are kept: a day, so that people see in the morning what happened at night. */
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

/** Counts that only grow. */
export type Counts = v.InferOutput<typeof COUNTS>

const NOTHING: Counts = { peer: 0, local: 0, upstream: 0, given: 0, failures: 0 }

/** What happened in the last day. */
export interface HistoryStatus {
  /** Milliseconds of one bar, and how many bars there are up to now. */
  readonly interval: number
  readonly kept: number
  /** The bars in which anything happened: how many bars ago (0 is the present one), and its counts. */
  readonly bars: readonly (readonly [ago: number, counts: Counts])[]
}

export interface HistoryDependencies {
  /** Returns the counts since the start of this program. */
  readonly look: () => Promise<Counts>
  /** The file that keeps the history over restarts; if missing, it is only in memory. */
  readonly path: string | undefined
  readonly log: Logger
  /** Milliseconds since 1970. */
  readonly now?: () => number
}

/**
 * What happened in the last day, in bars of ten minutes. It looks at the counts once for each bar, and when it is asked. It
 * writes its file at the end of each bar in which something happened.
 */
export class History {
  readonly #dependencies: Required<HistoryDependencies>
  /** By number of bars since 1970. */
  readonly #bars: Map<number, Counts>
  #last = NOTHING
  #lookedAt: number
  #isChanged = false
  #timer: ReturnType<typeof setTimeout> | undefined
  /** Looks run one after another, because each counts what is new since the one before. */
  #looking: Promise<void> = Promise.resolve()

  private constructor(dependencies: Required<HistoryDependencies>, bars: Iterable<readonly [number, Counts]>) {
    this.#dependencies = dependencies
    this.#bars = new Map(bars)
    this.#lookedAt = dependencies.now()
    this.#wait()
  }

  /** @throws the system's error if the file exists but cannot be read */
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

  /** Looks at the end of the present bar. */
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
    // Every bar ends with a look, so everything since the last look belongs to the bar of that look.
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
      // The mirror works without the file, and tries again at the end of the next bar.
      this.#isChanged = true
      log.warn('cannot write the history', { path, error })
    }
  }
}

function barOf(time: number): number {
  return Math.floor(time / INTERVAL)
}

function combined(some: Counts, others: Counts, combine: (a: number, b: number) => number): Counts {
  const names = Object.keys(NOTHING) as (keyof Counts)[]
  return Object.fromEntries(names.map((name) => [name, combine(some[name], others[name])])) as Counts
}
