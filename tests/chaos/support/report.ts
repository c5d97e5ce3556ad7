import { printTable } from '../../bench/figures.ts'
import type { Runtime } from '../../e2e/harness/index.ts'
import type { Outcome } from './experiment.ts'

/** In the order of the columns. */
const RUNTIMES: readonly Runtime[] = ['node', 'deno', 'bun']

interface Row {
  readonly outcome: Outcome
  readonly runtime: Runtime
  readonly undisturbed: number | undefined
}

/** Compares disturbed pulls with undisturbed ones, and prints that as Markdown. The table of lib/transfer/README.md is from here. */
export class Report {
  readonly #rows: Row[] = []

  /**
   * @param runtime the runtime under test; by default the asker's
   * @param undisturbed the time of the same pull without a fault, in milliseconds
   */
  add(outcome: Outcome, { undisturbed, runtime = outcome.asker.runtime }: Partial<Omit<Row, 'outcome'>> = {}): void {
    this.#rows.push({ outcome, runtime, undisturbed })
  }

  /** Prints what each fault cost on each runtime, and then all counts. */
  print(title: string): void {
    const faults = [...new Set(this.#rows.map(({ outcome }) => outcome.what))]
    const cost = (what: string, runtime: Runtime) => {
      const row = this.#rows.find((row) => row.outcome.what === what && row.runtime === runtime)
      return row === undefined ? '' : costOf(row)
    }
    console.log(`\n${title}\n`)
    printTable(
      ['what happens', ...RUNTIMES],
      faults.map((what) => [what, ...RUNTIMES.map((runtime) => cost(what, runtime))]),
    )
    console.log('')
    printTable(
      ['what happens', 'runtime', 's', 'MB twice', 'went on', 'hedges', 'tries', 'first failed after s', 'upstream'],
      this.#rows.map(({ outcome, runtime }) => [
        outcome.what,
        runtime,
        seconds(outcome.ms),
        megabytes(outcome.twice),
        String(outcome.resumes),
        String(outcome.hedges),
        String(outcome.tries),
        outcome.failedAfter === undefined ? '' : seconds(outcome.failedAfter),
        outcome.upstream.map(({ status, bytes }) => `${status}: ${megabytes(bytes)} MB`).join(', ') || 'nothing',
      ]),
    )
    console.log('')
  }
}

/** The time compared with the undisturbed pull, the bytes that came twice, and whatever is not as it should be. */
function costOf({ outcome: { ms, twice, tries, upstream }, undisturbed }: Row): string {
  const time = undisturbed === undefined ? seconds(ms) : signed(seconds(ms - undisturbed))
  const parts = [`${time} s`, `${megabytes(Math.max(twice, 0))} MB`]
  if (tries > 1) parts.push(`${tries} tries`)
  if (upstream.length > 0) parts.push(`${megabytes(upstream.reduce((sum, { bytes }) => sum + bytes, 0))} MB upstream`)
  return parts.join(', ')
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(1)
}

function signed(seconds: string): string {
  return Number(seconds) < 0 ? seconds : `+${seconds.replace('-', '')}`
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1)
}
