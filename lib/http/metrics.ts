import { SOURCES } from '../observe/activity.ts'
import { ANSWER_BUCKETS, combinations, type Metrics, TRANSFER_BUCKETS } from '../observe/metrics.ts'

export type HttpMetrics = ReturnType<typeof createHttpMetrics>

export const DOORS = ['registry', 'peer'] as const
const METHODS = ['GET', 'HEAD', 'other'] as const
/** The sources that have content. */
const CONTENT_SOURCES = ['local', 'peer'] as const
/**
 * Who resolved: `upstream`, because this mirror left it to the registry; the `swarm`, this node included; or `nobody` in the
 * swarm, so that containerd asked the registry.
 */
const RESOLVERS = ['upstream', 'swarm', 'nobody'] as const
/** Why the peer door refused a request. */
const REFUSAL_REASONS = ['capability', 'busy'] as const

/** Registries with their own label: more than a cluster uses, and few enough for Prometheus. Clients may name any number. */
const MOST_REGISTRIES = 32

/**
 * The requests and answers of a node where all is well. Their counters are there from the start, the others from the first time
 * on.
 */
const USUAL_REQUESTS = [
  ...combinations({ door: ['registry'], method: ['GET'], status: ['200', '206'], source: CONTENT_SOURCES }),
  ...combinations({ door: ['registry'], method: ['HEAD'], status: ['200'], source: CONTENT_SOURCES }),
  ...combinations({ door: ['registry'], method: ['GET', 'HEAD'], status: ['404'], source: ['none'] }),
  ...combinations({ door: ['peer'], method: ['GET'], status: ['200', '206'], source: ['local'] }),
  ...combinations({ door: ['peer'], method: ['HEAD'], status: ['200'], source: ['local'] }),
  ...combinations({ door: ['peer'], method: ['GET', 'HEAD'], status: ['404', '503'], source: ['none'] }),
]

/** A peer door serves only content of its own node. */
const USUAL_BYTES = [
  { door: 'registry', source: 'local' },
  { door: 'registry', source: 'peer' },
  { door: 'peer', source: 'local' },
] as const

/** The metrics of the registry door and the peer door. */
export function createHttpMetrics({ counters, histograms }: Metrics) {
  return {
    requests: counters(
      'requests_total',
      'Requests answered, by source of the content (none: an answer without content).',
      { door: DOORS, method: METHODS, status: [] as readonly string[], source: SOURCES },
      USUAL_REQUESTS,
    ),
    bytes: counters(
      'bytes_total',
      'Bytes of content that a door has sent, by source.',
      { door: DOORS, source: CONTENT_SOURCES },
      USUAL_BYTES,
    ),
    registryBytes: counters(
      'registry_bytes_total',
      'Bytes of content that the registry door has sent, by the registry of the request and by source.',
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
    resolves: counters('resolves_total', 'Requests to resolve a tag or digest, by who answered.', {
      by: RESOLVERS,
    }),
    peerDoorRefused: counters('peer_door_refused_total', 'Requests of other nodes that were refused, by reason.', {
      reason: REFUSAL_REASONS,
    }),
  }
}

/** Keeps the first `most` names, and calls all later ones `other`. */
export function boundedNames(most: number): (name: string) => string {
  const kept = new Set<string>()
  return (name) => {
    if (kept.size < most) kept.add(name)
    return kept.has(name) ? name : 'other'
  }
}
