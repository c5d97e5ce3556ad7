import type { Metrics } from '../observe/metrics.ts'

/** The metrics of the swarm: name and meaning. */
const METRICS = {
  keys: ['keys_announced', 'Digests and tags that are kept announced in the swarm.'],
  waiting: ['keys_waiting', 'Digests and tags whose announcement or withdrawal has not reached the swarm yet.'],
  refreshed: ['keys_refreshed_total', 'Announcements that were renewed before they expired.'],
  lag: ['refresh_lag_seconds', 'How late this node is with announcements that are due to be made again.'],
  requests: ['swarm_requests_total', 'Requests to other nodes over the DHT.'],
  silent: ['swarm_silent_total', 'Requests over the DHT that were not answered in time.'],
  records: ['swarm_records', 'Announcements of others that this node keeps for the DHT.'],
  recordLimit: ['swarm_record_limit', 'How many announcements of others this node keeps at most.'],
  recordsRefused: [
    'swarm_records_refused_total',
    'Announcements of others that this node refused because it had no room.',
  ],
  turnedAway: [
    'announcements_refused_total',
    'Announcements of this node that others had no room for, so that the next nodes were asked.',
  ],
  refused: [
    'datagrams_refused_total',
    'Datagrams that were dropped unread: not sealed under the swarm key, with a wrong time, or sent twice.',
  ],
  neighbours: ['peers_known', 'Other nodes that this one knows in the swarm; 0 means that it is alone.'],
} as const

/** Times are in milliseconds; totals only grow. */
export type SwarmFigures = Readonly<Record<keyof typeof METRICS, number>>

/** @param figures called each time that the metrics are read */
export function registerSwarmMetrics({ gaugeFrom, counterFrom }: Metrics, figures: () => SwarmFigures): void {
  for (const [figure, [name, help]] of Object.entries(METRICS)) {
    const register = name.endsWith('_total') ? counterFrom : gaugeFrom
    const unit = name.endsWith('_seconds') ? 1_000 : 1
    register(name, help, () => figures()[figure as keyof SwarmFigures] / unit)
  }
}
