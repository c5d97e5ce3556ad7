import { escaped } from '../../observe/log.ts'
import type { Metrics } from '../../observe/metrics.ts'
import { type Look, type Paint, plain } from '../../observe/paint.ts'
import { type Finding, type Remedy, SEVERITIES, type Severity } from '../rule.ts'

/** Findings in the order in which to read them, and their sum. */
export interface Report {
  /** `failed` if there is any error: the mirror would not work, and `serve` does not start. */
  readonly outcome: 'passed' | 'failed'
  readonly counts: Readonly<Record<Severity, number>>
  /** Errors first, then warnings, then what could not be checked; each in the order in which they were found. */
  readonly findings: readonly Finding[]
}

/** Sums up findings. */
export function makeReport(findings: readonly Finding[]): Report {
  const of = (severity: Severity) => findings.filter((finding) => finding.severity === severity)
  const counts = { error: 0, warning: 0, unknown: 0, ok: 0 }
  for (const { severity } of findings) counts[severity]++
  return { outcome: counts.error > 0 ? 'failed' : 'passed', counts, findings: SEVERITIES.flatMap(of) }
}

/** @param last the report of the node's last check; `undefined` before the first one */
export function registerCheckMetrics({ gaugesFrom }: Metrics, last: () => Report | undefined): void {
  const help = 'Findings of the last check of containerd and this node, by severity.'
  gaugesFrom('check_findings', help, ['severity'], () => {
    const { counts } = last() ?? {}
    return counts === undefined ? [] : SEVERITIES.map((severity) => [{ severity }, counts[severity]] as const)
  })
}

/** The report for machines: one JSON document and a line feed. */
export function reportAsJson(report: Report): string {
  return `${JSON.stringify(report, undefined, 2)}\n`
}

/**
 * The report for people, with a line feed at its end. A finding that is right takes one line; others say why and what to do.
 *
 * @param paint for a terminal: the sum then comes first, so that the most important findings follow it
 */
export function reportAsText(report: Report, paint?: Paint): string {
  const blocks = report.findings.map((finding) => findingAsText(finding, paint))
  const { outcome, counts } = report
  const sums = SEVERITIES.filter((severity) => counts[severity] > 0).map((severity) => {
    const word = WORDS[severity] ?? `${severity}${counts[severity] === 1 ? '' : 's'}`
    return `${counts[severity]} ${word}`
  })
  const sum = `${outcome}: ${sums.length === 0 ? 'nothing was looked at' : sums.join(', ')}`
  if (paint === undefined) return `${[...blocks, sum].join('\n')}\n`
  return `${[paint(outcome === 'failed' ? 'red' : 'green', sum), '', ...blocks].join('\n')}\n`
}

const WORDS: Partial<Record<Severity, string>> = { unknown: 'could not be checked', ok: 'right' }

const LOOKS: Readonly<Record<Severity, Look>> = { error: 'red', warning: 'yellow', unknown: 'dim', ok: 'green' }

/** One finding for people: a line, and an explanation if it is not right, without a line feed at the end. */
export function findingAsText({ id, severity, seen, expected, why, remedy }: Finding, paint: Paint = plain): string {
  const head = `${paint(LOOKS[severity], severity.padEnd(8))}${paint('bold', id)}: ${printable(seen)}`
  if (severity === 'ok') return head
  const lines = [head, `  expected: ${printable(expected)}`, `  why: ${printable(why)}`]
  if (remedy !== undefined) lines.push(...remedyAsText(remedy))
  return lines.join('\n')
}

/** A remedy for people: lines without a line feed at the end of the last one. */
export function remedyAsText({ text, file, lines = [], command }: Remedy): string[] {
  const told = [`  remedy: ${printable(text)}`]
  if (file !== undefined) told.push(`    in ${printable(file)}:`)
  // Indented alone, so that the block can be copied as it stands: TOML and YAML do not mind a common indent.
  for (const line of lines) told.push(`      ${printable(line)}`)
  if (command !== undefined) told.push(`    then: ${printable(command)}`)
  return told
}

/**
 * Values come from files that others wrote, and their control characters must not reach a terminal. A tab may: it is harmless, and
 * the lines of a file must be printed exactly.
 */
function printable(text: string): string {
  return escaped(text, /(?!\t)[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/gu)
}
