import type { Node } from './node.ts'

/** All metrics of a node's mirror, as Prometheus scrapes them. */
export async function metricsOf(node: Node): Promise<string> {
  return (await node.admin('/metrics')).body.toString()
}

/**
 * The sum of a counter over all matching labels.
 *
 * @param metrics what {@link metricsOf} returned
 * @param name without `swarmirror_` and `_total`
 * @param labels a regular expression for all labels between the braces
 * @throws {Error} if there is no such counter
 */
export function totalOf(metrics: string, name: string, labels = ''): number {
  const lines = [...metrics.matchAll(new RegExp(`^swarmirror_${name}_total(?:\\{${labels}\\})? (\\d+)$`, 'gm'))]
  if (lines.length === 0) throw new Error(`no ${name} in the metrics:\n${metrics}`)
  return lines.reduce((sum, [, value]) => sum + Number(value), 0)
}
