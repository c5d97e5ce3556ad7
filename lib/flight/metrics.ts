import type { Metrics } from '../observe/metrics.ts'

/** What keepers may answer; `silent`: none of them answered. */
const ANSWERS = ['holders', 'follow', 'lead', 'wait', 'silent'] as const

export type FlightMetrics = ReturnType<typeof createFlightMetrics>

export interface FlightFigures {
  /** The claims that this node keeps: one for each node and digest. */
  readonly kept: number
  /** Digests that are being written on this node. */
  readonly arriving: number
}

/** @param figures called whenever the metrics are read */
export function createFlightMetrics(
  { counter, counters, histograms, gaugeFrom }: Metrics,
  figures: () => FlightFigures,
) {
  gaugeFrom('flight_kept', 'Claims that this node keeps: which node is getting which digest.', () => figures().kept)
  gaugeFrom(
    'flight_arriving',
    'Digests that containerd on this node is downloading, in pulls that asked this mirror.',
    () => figures().arriving,
  )
  return {
    claims: counters('flight_claims_total', 'Questions to keepers about content that is pulled, by the answer.', {
      answer: ANSWERS,
    }),
    flights: counters(
      'flights_total',
      'Downloads that other nodes could follow, by the role of this node and how they ended.',
      { role: ['leader', 'follower'], outcome: ['complete', 'aborted'] },
    ),
    crowds: histograms(
      'flight_crowd',
      'How many other nodes were getting the same content when this one began to follow.',
      [1, 2, 4, 8, 16, 32, 64],
      {},
    ),
    left: counter('flight_left_total', 'Nodes that this one was to get content from, and gave up.'),
    moved: counter('flight_moved_total', 'How often a keeper has moved this node, as it followed, to a better one.'),
  }
}
