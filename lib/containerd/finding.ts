import type { Edit } from '../toml/patch.ts'

/**
 * How a finding weighs. `error`: the mirror would not work; `warning`: it works, but not as expected; `ok`: looked at and
 * right; `unknown`: it could not be checked, which is neither good nor bad.
 */
export type Severity = 'error' | 'warning' | 'ok' | 'unknown'

/** From what must be read first to what may be skipped. */
export const SEVERITIES: readonly Severity[] = ['error', 'warning', 'unknown', 'ok']

/** One thing that was looked at, or that was meant to be. Texts are whole sentences or noun phrases without a full stop. */
export interface Finding {
  /** Names the rule, in kebab-case; it stays the same between versions, so that scripts can rely on it. */
  readonly id: string
  readonly severity: Severity
  /** What was seen, with the value and where it was (file and line, or the call that gave it). */
  readonly seen: string
  readonly expected: string
  /** What goes wrong otherwise. */
  readonly why: string
  readonly remedy?: Remedy | undefined
}

/** What to do, literally: after it the finding is gone. */
export interface Remedy {
  /** What to do, in words. */
  readonly text: string
  /** The file that `lines` belong in. */
  readonly file?: string | undefined
  /** Lines as they must stand in `file`; without a file, settings of swarmirror as environment variables. */
  readonly lines?: readonly string[] | undefined
  /** Changes of `file` as it is now, to be made all at once; in place of `lines`. */
  readonly edits?: readonly Edit[] | undefined
  /** What to type afterwards, as root, for it to take effect. */
  readonly command?: string | undefined
}
