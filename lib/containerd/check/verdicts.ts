import type { ConfigValue, Sourced } from './config/load.ts'
import type { Reading, Readings } from './config/reading.ts'
import type { RunningValue } from './config/running.ts'
import { type Told, type Verdict, whereOf } from './rules.ts'

/** One setting in what runs and in each way of reading the files, and the rule on its value. */
export interface JudgedSetting {
  readonly running: RunningValue<ConfigValue> | undefined
  /** The setting as one way of reading has it. */
  readonly of: (reading: Reading) => { readonly value: ConfigValue; readonly source?: Sourced | undefined }
  /** The rule; other settings that it depends on are in the reading. */
  readonly judge: (told: Told, reading: Reading | undefined) => Verdict
}

/**
 * The verdict on what runs, where containerd tells, else on what it would read. Where both are known and the files would
 * make wrong what is right now, that is a warning: the next start of containerd ends it.
 */
export function judgeSetting({ loaded, all }: Readings, { running, of, judge }: JudgedSetting): Verdict {
  const onFiles = () =>
    agreed(
      all.map((reading) => {
        const { value, source } = of(reading)
        return judge({ value, where: whereOf(source) }, reading)
      }),
    )
  const [problem] = loaded.problems
  if (running === undefined) {
    if (problem === undefined) return onFiles()
    const seen = `containerd does not tell, and its files cannot be read whole: ${problem.file}: ${problem.reason}`
    return { severity: 'unknown', seen }
  }
  const now = judge({ value: running.value, where: `${running.by}: what runs now` }, all[0])
  if (problem !== undefined || loaded.files.length === 0) return now
  const next = onFiles()
  if (next.severity === now.severity) {
    const source = all[0] === undefined ? undefined : of(all[0]).source
    return source === undefined ? now : { ...now, seen: `${now.seen}; set in ${whereOf(source)}` }
  }
  if (next.severity === 'ok') return { ...now, seen: `${now.seen}; its files say otherwise since: ${next.seen}` }
  if (now.severity !== 'ok' || next.severity === 'unknown') return now
  return { severity: 'warning', seen: `${now.seen}; from its next start on: ${next.seen}`, why: next.why }
}

/** One verdict of those on each way of reading: unknown where they differ in what they mean. */
export function agreed(verdicts: readonly Verdict[]): Verdict {
  const [first, ...others] = verdicts
  if (first === undefined) return { severity: 'unknown', seen: 'nothing was read' }
  if (others.every(({ severity }) => severity === first.severity)) return first
  const seen = [...new Set(verdicts.map((verdict) => verdict.seen))].join('; or ')
  const why = 'this version can read its files in more than one way; the probe shows which'
  return { severity: 'unknown', seen, why }
}
