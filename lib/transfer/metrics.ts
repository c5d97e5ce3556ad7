import { TRANSFER_OUTCOMES } from '../observe/activity.ts'
import { ANSWER_BUCKETS, type Metrics, TRANSFER_BUCKETS } from '../observe/metrics.ts'

export type TransferMetrics = ReturnType<typeof createTransferMetrics>

/** The outcomes of a request to a peer. */
const PEER_REQUEST_OUTCOMES = [
  'content',
  'missing',
  'unsatisfiable',
  'busy',
  'outrun',
  'unreachable',
  'silent',
  'invalid',
] as const
/** Why a body of a peer broke off. */
const BREAK_REASONS = ['unreachable', 'silent', 'invalid', 'slow'] as const
const YES_OR_NO = ['true', 'false'] as const

/** The metrics of lookups and of transfers from other nodes. */
export function createTransferMetrics({ counter, counters, gauge, histograms }: Metrics) {
  return {
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
      { what: ['joined', 'left'] as const },
    ),
    transferBreaks: counters('transfer_breaks_total', 'Bodies from peers that broke off before their end, by why.', {
      reason: BREAK_REASONS,
    }),
    transferResumes: counter('transfer_resumes_total', 'Transfers continued from another peer at their offset.'),
    verificationFailures: counters('verification_failures_total', 'Content from peers that did not match its digest.', {
      kind: ['manifest', 'blob'] as const,
    }),
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
  }
}
