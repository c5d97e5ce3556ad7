import { SOURCES } from '../observe/activity.ts'
import { ANSWER_BUCKETS, type Metrics, TRANSFER_BUCKETS } from '../observe/metrics.ts'

export type HttpMetrics = ReturnType<typeof createHttpMetrics>

export const DOORS = ['registry', 'peer'] as const
const METHODS = ['GET', 'HEAD', 'other'] as const
/** Those that have content. */
const CONTENT_SOURCES = ['local', 'peer'] as const
/** Who answered a Resolve: upstream, which this mirror left it to; the swarm, this node included; or nobody, until upstream did. */
const RESOLVERS = ['upstream', 'swarm', 'nobody'] as const
/** Why the peer door refused a request. */
const REFUSAL_REASONS = ['capability', 'busy'] as const

/** Registries with a label of their own: more than a cluster has, and few enough for Prometheus. Clients of the door may name any. */
const MOST_REGISTRIES = 32

/** What the doors are asked and how they answer on a node where all is well; the rest is counted from its first time on. */
const USUAL_REQUESTS = [
  ...CONTENT_SOURCES.flatMap(
    (source) =>
      [
        { door: 'registry', method: 'GET', status: '200', source },
        { door: 'registry', method: 'GET', status: '206', source },
        { door: 'registry', method: 'HEAD', status: '200', source },
      ] as const,
  ),
  { door: 'registry', method: 'GET', status: '404', source: 'none' },
  { door: 'registry', method: 'HEAD', status: '404', source: 'none' },
  { door: 'peer', method: 'GET', status: '200', source: 'local' },
  { door: 'peer', method: 'GET', status: '206', source: 'local' },
  { door: 'peer', method: 'HEAD', status: '200', source: 'local' },
  ...(['GET', 'HEAD'] as const).flatMap((method) =>
    ['404', '503'].map((status) => ({ door: 'peer', method, status, source: 'none' }) as const),
  ),
] as const

/** A peer door serves only what its own node has. */
const USUAL_BYTES = [
  { door: 'registry', source: 'local' },
  { door: 'registry', source: 'peer' },
  { door: 'peer', source: 'local' },
] as const

/** What the registry door and the peer door count. */
export function createHttpMetrics({ counters, histograms }: Metrics) {
  return {
    requests: counters(
      'requests_total',
      'Requests answered, by where the content came from (none: there was none).',
      { door: DOORS, method: METHODS, status: [] as readonly string[], source: SOURCES },
      USUAL_REQUESTS,
    ),
    bytes: counters(
      'bytes_total',
      'Bytes of content that a door has sent, by where they came from.',
      { door: DOORS, source: CONTENT_SOURCES },
      USUAL_BYTES,
    ),
    registryBytes: counters(
      'registry_bytes_total',
      'Bytes of content that the registry door has sent, by the registry that was named and by where they came from.',
      { registry: [] as readonly string[], source: CONTENT_SOURCES },
      [],
    ),
    registryLabel: boundedNames(MOST_REGISTRIES),
    firstByteSeconds: histograms(
      'first_byte_seconds',
      'Time from a request at the registry door to the head of its answer.',
      ANSWER_BUCKETS,
      { source: CONTENT_SOURCES },
    ),
    requestSeconds: histograms(
      'request_seconds',
      'Time from a request at the registry door to the end of its answer.',
      TRANSFER_BUCKETS,
      { source: CONTENT_SOURCES },
    ),
    resolves: counters(
      'resolves_total',
      'Questions about what a tag or digest is and whether it may be pulled, by who answered.',
      {
        by: RESOLVERS,
      },
    ),
    peerDoorRefused: counters('peer_door_refused_total', 'Requests of other nodes that were refused, by why.', {
      reason: REFUSAL_REASONS,
    }),
  }
}

/** Keeps the first names as they are, and calls all later ones `other`. */
export function boundedNames(most: number): (name: string) => string {
  const kept = new Set<string>()
  return (name) => {
    if (kept.size < most) kept.add(name)
    return kept.has(name) ? name : 'other'
  }
}
