import type { Metrics } from '../observe/metrics.ts'
import type { AnnouncerFigures } from './announce/announcer.ts'

/** What a node counts of the swarm. Times are in milliseconds; what has been done so far only grows. */
export interface SwarmFigures extends Omit<AnnouncerFigures, 'stored' | 'removed'> {
  /** Other nodes that this one knows. */
  readonly neighbours: number
  /** Requests to other nodes so far, and those that were not answered in time. */
  readonly requests: number
  readonly silent: number
  /** Records that this node stores for others, how many it may, and those refused so far for want of room. */
  readonly records: number
  readonly recordLimit: number
  readonly recordsRefused: number
  /** Datagrams that were not answered, since no member had sealed them, or not lately. */
  readonly refused: number
}

/** @param figures called for each look at the metrics */
export function registerSwarmMetrics({ looked, lookedCounter }: Metrics, figures: () => SwarmFigures): void {
  looked('keys_announced', 'Digests and tags that are kept announced in the swarm.', () => figures().keys)
  looked(
    'keys_waiting',
    'Digests and tags whose announcement or withdrawal has not reached the swarm yet.',
    () => figures().waiting,
  )
  lookedCounter(
    'keys_refreshed_total',
    'Announcements that were made again before they expired.',
    () => figures().refreshed,
  )
  looked(
    'refresh_lag_seconds',
    'By how much announcements that are due to be made again are late.',
    () => figures().lag / 1000,
  )
  lookedCounter('swarm_requests_total', 'Requests to other nodes over the DHT.', () => figures().requests)
  lookedCounter('swarm_silent_total', 'Requests over the DHT that were not answered in time.', () => figures().silent)
  looked('swarm_records', 'Announcements of others that this node keeps for the DHT.', () => figures().records)
  looked('swarm_record_limit', 'How many it keeps before it refuses others.', () => figures().recordLimit)
  lookedCounter(
    'swarm_records_refused_total',
    'Announcements of others that this node refused, for want of room.',
    () => figures().recordsRefused,
  )
  lookedCounter(
    'announcements_refused_total',
    'Announcements of this node that others had no room for; the next nodes were asked.',
    () => figures().turnedAway,
  )
  lookedCounter(
    'datagrams_refused_total',
    'Datagrams that were dropped unread: not sealed under the swarm key, of a wrong time, or sent twice.',
    () => figures().refused,
  )
  looked(
    'peers_known',
    'Other nodes that this one knows in the swarm; 0 means that it is alone.',
    () => figures().neighbours,
  )
}
