import type { Metrics } from '../../observe/metrics.ts'

/** What a node tells of its last check. */
export function createCheckMetrics({ gauge }: Metrics) {
  return {
    findings: gauge('check_findings', 'Findings of the last check of containerd and this node, by how they weigh.', [
      'severity',
    ]),
  }
}
