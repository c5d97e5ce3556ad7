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

/** Something that could not be looked at, and why, in words. */
export interface Unreadable {
  readonly unreadable: string
}

/** Something that was looked at: what was seen, or why nothing was. */
export type Fact<T> = T | Unreadable

export function isUnreadable(fact: unknown): fact is Unreadable {
  return typeof fact === 'object' && fact !== null && 'unreadable' in fact
}

/** What a rule says of its input. `why`, `expected` and `remedy` replace the rule's own where those do not fit. */
export interface Verdict {
  readonly severity: Severity
  /** What was seen, with the value and where it was. */
  readonly seen: string
  readonly expected?: string | undefined
  readonly why?: string | undefined
  readonly remedy?: Remedy | undefined
}

/** One thing to look at: which part of a snapshot it reads, how it judges that, why it matters, and what to do about it. */
export interface RuleDefinition<Snapshot, Input> {
  /** In kebab-case. It never changes, so that scripts can rely on it. */
  readonly id: string
  /** The part of the snapshot that is judged; `undefined` where there is nothing to judge. */
  reads(snapshot: Snapshot): Fact<Input> | undefined
  /** No verdict means that there is nothing to say. */
  judges(input: Input): Verdict | readonly Verdict[]
  readonly expected: string
  readonly why: string
  /** What makes it right again. It is not asked about what is right. */
  remedy?(input: Input, verdict: Verdict): Remedy | undefined | Promise<Remedy | undefined>
  /** Whether something was seen to work that cannot work where this rule finds an error. */
  provenBy?(snapshot: Snapshot): boolean
  /** Whether that proof is also enough where nothing could be read. */
  readonly proofIsEnough?: boolean
}

/** A rule that can be applied to a snapshot. */
export interface Rule<Snapshot> {
  readonly id: string
  readonly judge: (snapshot: Snapshot) => Promise<readonly Finding[]>
}

/**
 * Makes a rule. Where something is proven to work now, its errors are warnings: they tell what a restart may bring. What
 * could not be read is right then, if the proof is enough.
 */
export function rule<Snapshot, Input>(definition: RuleDefinition<Snapshot, Input>): Rule<Snapshot> {
  const { id, expected, why } = definition

  async function judge(snapshot: Snapshot): Promise<readonly Finding[]> {
    const input = definition.reads(snapshot)
    if (input === undefined) return []
    if (isUnreadable(input)) return [{ id, severity: 'unknown', seen: input.unreadable, expected, why }]
    const isProven = definition.provenBy?.(snapshot) === true
    const verdicts = [definition.judges(input)].flat().map((verdict): Verdict => {
      const { severity, seen } = verdict
      if (isProven && severity === 'error') {
        return { ...verdict, severity: 'warning', seen: `${seen}; but the probe shows that it works now` }
      }
      if (!isProven || severity !== 'unknown' || definition.proofIsEnough !== true) return verdict
      return { ...verdict, severity: 'ok', seen: `the probe shows that it is right; ${seen}` }
    })
    return await Promise.all(
      verdicts.map(async (verdict): Promise<Finding> => {
        const { severity, seen } = verdict
        const remedy = severity === 'ok' ? undefined : (verdict.remedy ?? (await definition.remedy?.(input, verdict)))
        return { id, severity, seen, expected: verdict.expected ?? expected, why: verdict.why ?? why, remedy }
      }),
    )
  }

  return { id, judge }
}

/** What rules find in a snapshot, in the order of the rules. */
export async function findingsOf<Snapshot>(rules: readonly Rule<Snapshot>[], snapshot: Snapshot): Promise<Finding[]> {
  const findings: Finding[] = []
  for (const { judge } of rules) findings.push(...(await judge(snapshot)))
  return findings
}

/** One word of a remedy's command, quoted where it must be: names come from directories and settings that others chose. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
