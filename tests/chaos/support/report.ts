import { printTable } from '../../bench/figures.ts'
import type { Outcome } from './experiment.ts'

/** Collects how disturbed pulls went beside undisturbed ones. */
export class Report {
  readonly #rows: { outcome: Outcome; undisturbed: number | undefined }[] = []

  /** @param undisturbed how long the same pull takes without a fault, in milliseconds */
  add(outcome: Outcome, undisturbed?: number): void {
    this.#rows.push({ outcome, undisturbed })
  }

  print(title: string): void {
    console.log(`\n${title}\n`)
    printTable(
      [
        'what happened',
        'asker',
        's',
        'beside undisturbed',
        'MB twice',
        'went on',
        'tries',
        'first failed after s',
        'upstream',
      ],
      this.#rows.map(({ outcome, undisturbed }) => [
        outcome.what,
        outcome.asker.runtime,
        (outcome.ms / 1000).toFixed(1),
        undisturbed === undefined
          ? ''
          : `${outcome.ms < undisturbed ? '-' : '+'}${(Math.abs(outcome.ms - undisturbed) / 1000).toFixed(1)} s`,
        (outcome.twice / 1e6).toFixed(1),
        String(outcome.resumes),
        String(outcome.tries),
        outcome.failedAfter === undefined ? '' : (outcome.failedAfter / 1000).toFixed(1),
        outcome.upstream.map(({ status, bytes }) => `${status}: ${(bytes / 1e6).toFixed(1)} MB`).join(', ') ||
          'nothing',
      ]),
    )
    console.log('')
  }
}
