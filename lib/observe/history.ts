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
 *
 * @throws the system's error if the file exists but cannot be read
 */
export async function openHistory({ look, path, log, now = Date.now }: HistoryDependencies) {
  const kept = path === undefined ? undefined : await readDocument(path, BARS, log)
  /** By number of bars since 1970. */
  const bars = new Map(kept)
  let last = NOTHING
  let lookedAt = now()
  let isChanged = false
  let timer: ReturnType<typeof setTimeout> | undefined
  /** Looks run one after another, because each counts what is new since the one before. */
  let looking: Promise<void> = Promise.resolve()
  /** Writes, too: two at a time would damage the file. */
  let writing: Promise<void> = Promise.resolve()

  /** Looks at the end of the present bar. */
  function wait(): void {
    timer = setTimeout(
      () => {
        wait()
        update()
          .then(save)
          .catch((error) => log.error('history not updated', { error }))
      },
      INTERVAL - (now() % INTERVAL),
    )
    timer.unref()
  }

  function update(): Promise<void> {
    looking = looking.catch(() => undefined).then(add)
    return looking
  }

  async function add(): Promise<void> {
    const counts = await look()
    // Every bar ends with a look, so everything since the last look belongs to the bar of that look.
    const bar = barOf(lookedAt)
    const grown = combined(counts, last, (a, b) => Math.max(a - b, 0))
    last = counts
    lookedAt = now()
    if (Object.values(grown).every((value) => value === 0)) return
    isChanged = true
    bars.set(
      bar,
      combined(bars.get(bar) ?? NOTHING, grown, (a, b) => a + b),
    )
    const oldest = barOf(lookedAt) - KEPT
    for (const old of bars.keys()) if (old <= oldest) bars.delete(old)
  }

  function save(): Promise<void> {
    writing = writing.then(write)
    return writing
  }

  async function write(): Promise<void> {
    if (path === undefined || !isChanged) return
    isChanged = false
    try {
      await writeDocument(path, [...bars].slice(-KEPT))
    } catch (error) {
      // The mirror works without the file, and tries again at the end of the next bar.
      isChanged = true
      log.warn('cannot write the history', { path, error })
    }
  }

  wait()
  return {
    async status(): Promise<HistoryStatus> {
      await update()
      const present = barOf(now())
      const since = [...bars].map(([bar, counts]) => [present - bar, counts] as const)
      return { interval: INTERVAL, kept: KEPT, bars: since.filter(([ago]) => ago >= 0 && ago < KEPT) }
    },

    /** Looks a last time, and writes the file. */
    async close(): Promise<void> {
      clearTimeout(timer)
      await update()
      await save()
    },
  }
}

function barOf(time: number): number {
  return Math.floor(time / INTERVAL)
}

function combined(some: Counts, others: Counts, combine: (a: number, b: number) => number): Counts {
  const names = Object.keys(NOTHING) as (keyof Counts)[]
  return Object.fromEntries(names.map((name) => [name, combine(some[name], others[name])])) as Counts
}
