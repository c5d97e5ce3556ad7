/**
 * The weight of a finding. `error`: the mirror would not work; `warning`: it works, but not as expected; `ok`: checked and right;
 * `unknown`: it could not be checked, which is neither good nor bad.
 */
export type Severity = 'error' | 'warning' | 'ok' | 'unknown'

/** From the most important to the least. */
export const SEVERITIES: readonly Severity[] = ['error', 'warning', 'unknown', 'ok']

/** The result of one rule. Texts are sentences or noun phrases without a full stop. */
export interface Finding {
  /** The rule's name in kebab-case, on which scripts rely: it stays the same between versions. */
  readonly id: string
  readonly severity: Severity
  /** What was seen: the value and its place (file and line, or the call that returned it). */
  readonly seen: string
  readonly expected: string
  /** What goes wrong if this is not as expected. */
  readonly why: string
  readonly remedy?: Remedy | undefined
}

/** Literally what to do to make the finding go away. */
export interface Remedy {
  /** What to do, in words. */
  readonly text: string
  /** The file that `lines` belong in. */
  readonly file?: string | undefined
  /** The exact lines for `file`; without a file, settings of swarmirror as environment variables. */
  readonly lines?: readonly string[] | undefined
  /** What to type afterwards, as root, for it to take effect. */
  readonly command?: string | undefined
}

/** Why something could not be looked at, in words. */
export interface Unreadable {
  readonly unreadable: string
}

/** What was seen, or why nothing was. */
export type Fact<T> = T | Unreadable

export function isUnreadable(fact: unknown): fact is Unreadable {
  return typeof fact === 'object' && fact !== null && 'unreadable' in fact
}

/** A rule's judgement of its input. `why`, `expected` and `remedy` replace the rule's own if those do not fit. */
export interface Verdict {
  readonly severity: Severity
  /** What was seen: the value and its place. */
  readonly seen: string
  readonly expected?: string | undefined
  readonly why?: string | undefined
  readonly remedy?: Remedy | undefined
}

/** A rule: which part of a snapshot it reads, how it judges that part, why that matters, and what to do about it. */
export interface RuleDefinition<Snapshot, Input> {
  /** In kebab-case. It never changes, because scripts rely on it. */
  readonly id: string
  /** The part of the snapshot to judge; `undefined` if there is nothing to judge. */
  reads(snapshot: Snapshot): Fact<Input> | undefined
  /** No verdict means that there is nothing to say. */
  judges(input: Input): Verdict | readonly Verdict[]
  readonly expected: string
  readonly why: string
  /** What makes it right again. It is not asked about what is right. */
  remedy?(input: Input, verdict: Verdict): Remedy | undefined
  /** Whether something was seen to work that cannot work where this rule finds an error. */
  provenBy?(snapshot: Snapshot): boolean
  /** Whether that proof is also enough if nothing could be read. */
  readonly proofIsEnough?: boolean
}

/** A rule that can judge a snapshot. */
export interface Rule<Snapshot> {
  readonly id: string
  readonly judge: (snapshot: Snapshot) => readonly Finding[]
}

/**
 * Makes a rule. If something provably works now, the rule's errors become warnings, which tell what a restart may bring. What
 * could not be read is then right, if the proof is enough.
 */
export function rule<Snapshot, Input>(definition: RuleDefinition<Snapshot, Input>): Rule<Snapshot> {
  const { id, expected, why } = definition

  function judge(snapshot: Snapshot): readonly Finding[] {
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
    return verdicts.map((verdict): Finding => {
      const { severity, seen } = verdict
      const remedy = severity === 'ok' ? undefined : (verdict.remedy ?? definition.remedy?.(input, verdict))
      return { id, severity, seen, expected: verdict.expected ?? expected, why: verdict.why ?? why, remedy }
    })
  }

  return { id, judge }
}

/** What rules find in a snapshot, in the order of the rules. */
export function findingsOf<Snapshot>(rules: readonly Rule<Snapshot>[], snapshot: Snapshot): Finding[] {
  return rules.flatMap(({ judge }) => judge(snapshot))
}

/** A word of a remedy's command, quoted if necessary: names come from directories and settings that others chose. */
export function shellWord(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`
}
