import type { Metrics } from '../observe/metrics.ts'
import type { SwarmFigures } from './router.ts'

/** Registers what a node counts of the swarm. */
export function registerSwarmMetrics(
  { looked, lookedCounter }: Metrics,
  router: { readonly figures: SwarmFigures; readonly neighbours: number },
): void {
  looked('keys_announced', 'Digests and tags that are kept announced in the swarm.', () => router.figures.keys)
  looked(
    'keys_waiting',
    'Digests and tags whose announcement or withdrawal has not reached the swarm yet.',
    () => router.figures.waiting,
  )
  lookedCounter(
    'keys_refreshed_total',
    'Announcements that were made again before they expired.',
    () => router.figures.refreshed,
  )
  looked(
    'refresh_lag_seconds',
    'By how much announcements that are due to be made again are late.',
    () => router.figures.lag / 1000,
  )
  lookedCounter('swarm_requests_total', 'Requests to other nodes over the DHT.', () => router.figures.requests)
  lookedCounter(
    'swarm_silent_total',
    'Requests over the DHT that were not answered in time.',
    () => router.figures.silent,
  )
  looked('swarm_records', 'Announcements of others that this node keeps for the DHT.', () => router.figures.records)
  looked('swarm_record_limit', 'How many it keeps before it drops some.', () => router.figures.recordLimit)
  lookedCounter(
    'swarm_records_dropped_total',
    'Announcements of others that were dropped before their time, for want of room.',
    () => router.figures.dropped,
  )
  looked(
    'peers_known',
    'Other nodes that this one knows in the swarm; 0 means that it is alone.',
    () => router.neighbours,
  )
}
