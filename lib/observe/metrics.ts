import {
  BREAK_REASONS,
  CONTENT_SOURCES,
  DOORS,
  METHODS,
  PEER_REQUEST_OUTCOMES,
  REFUSAL_REASONS,
  SHARES,
  SOURCES,
  TARGET_KINDS,
  TRANSFER_OUTCOMES,
  USUAL_BYTES,
  USUAL_REQUESTS,
  YES_OR_NO,
} from './metric-labels.ts'
import { createMetricSet } from './metric-set.ts'
import { processFigures } from './process-figures.ts'

export type Metrics = ReturnType<typeof createMetrics>

/** From a fast answer on the same machine to the bound of a race, in seconds. */
const ANSWER_BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5]
/** From a manifest to a layer of gigabytes over a busy network, in seconds. */
const TRANSFER_BUCKETS = [0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1200]

/** From a loop that is hardly late to one that stands still, in seconds. */
const LAG_BUCKETS = [0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5]

/** What a router counts, as far as it is shown (see SwarmFigures in swarm/router.ts). Times are in milliseconds. */
export interface AnnouncingFigures {
  readonly keys: number
  readonly waiting: number
  readonly refreshed: number
  readonly lag: number
  readonly requests: number
  readonly silent: number
  readonly records: number
  readonly recordLimit: number
  readonly dropped: number
}

/** What is not counted as it happens but looked at when somebody asks. */
export interface MetricSources {
  readonly peersAside?: () => number
  readonly peersConnected?: () => number
  readonly peersKnown?: () => number
  readonly peerDoorTransfers?: () => number
  readonly ready?: () => boolean
  readonly storeUp?: () => boolean
  readonly keysHeld?: () => number
  /** `undefined` for a router that counts nothing: then it is 0. */
  readonly announcing?: () => AnnouncingFigures | undefined
  readonly build?: { readonly version: string; readonly runtime: string; readonly runtime_version: string }
}

/** Everything that a mirror counts, in a registry of its own. */
export function createMetrics(sources: MetricSources = {}) {
  const { counter, counters, lookedCounter, gauge, looked, histogram, histograms, ...kept } = createMetricSet()
  const none = () => 0
  const announcing = (figure: keyof AnnouncingFigures) => () => sources.announcing?.()?.[figure] ?? 0

  const build = gauge('build_info', 'Always 1; the labels say what runs.', ['version', 'runtime', 'runtime_version'])
  if (sources.build !== undefined) build.set(sources.build, 1)
  looked('ready', 'Whether this mirror does its work (1) or not (0), as /readyz says.', () =>
    Number(sources.ready?.() ?? false),
  )
  looked('store_up', 'Whether containerd, or the layout that stands in for it, can be asked (1) or not (0).', () =>
    Number(sources.storeUp?.() ?? false),
  )
  looked('keys_held', 'Digests and tags that this node holds and offers to others.', sources.keysHeld ?? none)
  looked('keys_announced', 'Digests and tags that are kept announced in the swarm.', announcing('keys'))
  looked(
    'keys_waiting',
    'Digests and tags whose announcement or withdrawal has not reached the swarm yet.',
    announcing('waiting'),
  )
  lookedCounter(
    'keys_refreshed_total',
    'Announcements that were made again before they expired.',
    announcing('refreshed'),
  )
  looked(
    'refresh_lag_seconds',
    'By how much announcements that are due to be made again are late.',
    () => announcing('lag')() / 1000,
  )
  lookedCounter('swarm_requests_total', 'Requests to other nodes over the DHT.', announcing('requests'))
  lookedCounter('swarm_silent_total', 'Requests over the DHT that were not answered in time.', announcing('silent'))
  looked('swarm_records', 'Announcements of others that this node keeps for the DHT.', announcing('records'))
  looked('swarm_record_limit', 'How many it keeps before it drops some.', announcing('recordLimit'))
  lookedCounter(
    'swarm_records_dropped_total',
    'Announcements of others that were dropped before their time, for want of room.',
    announcing('dropped'),
  )
  looked(
    'peers_known',
    'Other nodes that this one knows in the swarm; 0 means that it is alone.',
    sources.peersKnown ?? none,
  )
  looked(
    'peers_connected',
    'Members of the swarm that this node has a proven connection to.',
    sources.peersConnected ?? none,
  )
  looked('peers_aside', 'Peers that are put aside at this moment.', sources.peersAside ?? none)
  looked(
    'peer_door_transfers',
    'Requests of other nodes that are being answered at this moment.',
    sources.peerDoorTransfers ?? none,
  )
  lookedCounter('process_cpu_seconds_total', 'Processor time that was used, in seconds.', processFigures.cpuSeconds)
  looked('process_resident_memory_bytes', 'Resident memory in bytes.', processFigures.residentBytes)
  looked('process_heap_bytes', 'Memory of the JavaScript heap that is in use, in bytes.', processFigures.heapUsedBytes)
  looked('process_start_time_seconds', 'When the process started, in seconds since 1970.', processFigures.startTime)
  looked('process_open_fds', 'Open file descriptors.', processFigures.openFiles)
  looked('process_max_fds', 'File descriptors that may be open.', processFigures.mostOpenFiles)
  return {
    requests: counters(
      'requests_total',
      'Requests answered, by where the content came from (none: there was none).',
      { door: DOORS, method: METHODS, status: [] as readonly string[], source: SOURCES },
      USUAL_REQUESTS,
    ),
    bytes: counters(
      'bytes_total',
      'Bytes of content that the answers of a door declared, by where they came from.',
      { door: DOORS, source: CONTENT_SOURCES },
      USUAL_BYTES,
    ),
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
    transfers: counters('transfers_total', 'Transfers from other nodes, by how they ended.', {
      outcome: TRANSFER_OUTCOMES,
    }),
    transferSeconds: histograms(
      'transfer_seconds',
      'Time that transfers from other nodes took, from the lookup to the last byte.',
      TRANSFER_BUCKETS,
      { outcome: TRANSFER_OUTCOMES },
    ),
    transferBytes: counter('transfer_bytes_total', 'Bytes of content taken from other nodes.'),
    transfersRunning: gauge('transfers_running', 'Transfers from other nodes that are under way.'),
    transferShares: counters(
      'transfer_shares_total',
      'Readers of a transfer that another request had begun (joined), and those that became too slow for it (left).',
      { what: SHARES },
    ),
    transferBreaks: counters('transfer_breaks_total', 'Bodies of peers that ended before their end, by why.', {
      reason: BREAK_REASONS,
    }),
    transferResumes: counter('transfer_resumes_total', 'Transfers continued from another peer at their offset.'),
    verificationFailures: counters(
      'verification_failures_total',
      'Content of peers whose bytes were not those of its digest.',
      { kind: TARGET_KINDS },
    ),
    peerRequests: counters('peer_requests_total', 'Requests to other nodes, by what came of them.', {
      outcome: PEER_REQUEST_OUTCOMES,
    }),
    hedges: counter('hedges_total', 'Peers asked because those before them were slow to answer.'),
    lookups: counters('lookups_total', 'Lookups in the swarm, by whether a peer was found.', { found: YES_OR_NO }),
    lookupSeconds: histograms(
      'lookup_seconds',
      'Time that lookups took to their first peer, or to their end without one.',
      ANSWER_BUCKETS,
      { found: YES_OR_NO },
    ),
    checkFindings: gauge(
      'check_findings',
      'Findings of the last check of containerd and this node, by how they weigh.',
      ['severity'],
    ),
    peerDoorRefused: counters('peer_door_refused_total', 'Requests of other nodes that were refused, by why.', {
      reason: REFUSAL_REASONS,
    }),
    eventLoopLagSeconds: histogram(
      'event_loop_lag_seconds',
      'By how much timers of this process are late: what waits for its turn waits as long.',
      LAG_BUCKETS,
    ),

    ...kept,
  }
}
