import type { Finding } from '../finding.ts'
import { ASKED, KEPT } from './probe-findings.ts'

/** What is read of the configuration, by what the probe shows of the same thing. */
const SHOWN_BY: Readonly<Record<string, readonly string[]>> = {
  [ASKED]: [
    'registry-config-path',
    'legacy-registry-config',
    'containerd-config-file',
    'containerd-config-in-use',
    'distribution',
    'containerd-config-version',
    'cri-disabled',
  ],
  [KEPT]: ['discard-unpacked-layers'],
}

/**
 * Puts what the probe has shown beside what was read. Where they disagree the probe is right, about now: an error that was
 * only read is then a warning, of what the next start of containerd may bring; and what was read as right does not excuse
 * what was shown to be wrong.
 */
export function reconcile(read: readonly Finding[], shown: readonly Finding[]): readonly Finding[] {
  const verdicts = new Map(shown.map(({ id, severity }) => [id, severity]))
  const milder = (finding: Finding): Finding => {
    const [rule] = Object.entries(SHOWN_BY).find(([, ids]) => ids.includes(finding.id)) ?? []
    if (rule === undefined || verdicts.get(rule) !== 'ok' || finding.severity !== 'error') return finding
    return { ...finding, severity: 'warning', seen: `${finding.seen}; but the probe shows that it works now` }
  }
  const harder = (finding: Finding): Finding => {
    const settled = SHOWN_BY[finding.id]?.slice(0, 1) ?? []
    const right = read.some(({ id, severity }) => settled.includes(id) && severity === 'ok')
    if (finding.severity !== 'error' || !right) return finding
    return {
      ...finding,
      seen: `${finding.seen}; yet ${settled.join()} reads as right: it counts from containerd’s next start on`,
    }
  }
  return [...read.map(milder), ...shown.map(harder)]
}
