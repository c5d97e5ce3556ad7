import { Counter, Gauge, Histogram, Registry } from 'prom-client'

export type Metrics = ReturnType<typeof createMetrics>

/** From a fast answer on the same machine to the bound of a race, in seconds. */
const ANSWER_BUCKETS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5]
/** From a manifest to a layer of gigabytes over a busy network, in seconds. */
const TRANSFER_BUCKETS = [0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 1200]

/** What is not counted as it happens but looked at when somebody asks. */
export interface MetricSources {
  readonly peersAside?: () => number
  readonly peerDoorTransfers?: () => number
}

/** One metric, for people. */
export interface MetricDescription {
  readonly name: string
  readonly type: 'counter' | 'gauge' | 'histogram'
  readonly labels: readonly string[]
  readonly help: string
}

/** Everything that a mirror counts, in a registry of its own. */
export function createMetrics({ peersAside = () => 0, peerDoorTransfers = () => 0 }: MetricSources = {}) {
  const registry = new Registry()
  const registers = [registry]
  const descriptions: MetricDescription[] = []
  /** What all kinds have in common. */
  const described = <Label extends string>(
    type: MetricDescription['type'],
    name: string,
    help: string,
    labelNames: readonly Label[] = [],
  ) => {
    const metric = { name: `swarmirror_${name}`, help, labelNames }
    descriptions.push({ name: metric.name, type, labels: labelNames, help })
    return { ...metric, registers }
  }
  const counter = <Label extends string = never>(name: string, help: string, labels?: readonly Label[]) =>
    new Counter(described('counter', name, help, labels))
  const gauge = (name: string, help: string) => new Gauge(described('gauge', name, help))
  const histogram = <Label extends string>(name: string, help: string, buckets: number[], labels: readonly Label[]) =>
    new Histogram({ ...described('histogram', name, help, labels), buckets })
  const looked = (name: string, help: string, look: () => number) =>
    new Gauge({
      ...described('gauge', name, help),
      collect() {
        this.set(look())
      },
    })

  looked('peers_aside', 'Peers that are put aside at this moment.', peersAside)
  looked('peer_door_transfers', 'Requests of other nodes that are being answered at this moment.', peerDoorTransfers)
  return {
    requests: counter('requests_total', 'Requests answered, by where the content came from (none: there was none).', [
      'door',
      'method',
      'status',
      'source',
    ]),
    bytes: counter('bytes_total', 'Bytes of content that the answers of a door declared, by where they came from.', [
      'door',
      'source',
    ]),
    firstByteSeconds: histogram(
      'first_byte_seconds',
      'Time from a request at the registry door to the head of its answer.',
      ANSWER_BUCKETS,
      ['source'],
    ),
    transfers: counter('transfers_total', 'Transfers from other nodes, by how they ended.', ['outcome']),
    transferSeconds: histogram(
      'transfer_seconds',
      'Time that transfers from other nodes took, from the lookup to the last byte.',
      TRANSFER_BUCKETS,
      ['outcome'],
    ),
    transferBytes: counter('transfer_bytes_total', 'Bytes of content taken from other nodes.'),
    transfersRunning: gauge('transfers_running', 'Transfers from other nodes that are under way.'),
    transferShares: counter(
      'transfer_shares_total',
      'Readers of a transfer that another request had begun (joined), and those that became too slow for it (left).',
      ['what'],
    ),
    transferBreaks: counter('transfer_breaks_total', 'Bodies of peers that ended before their end, by why.', [
      'reason',
    ]),
    transferResumes: counter('transfer_resumes_total', 'Transfers continued from another peer at their offset.'),
    verificationFailures: counter(
      'verification_failures_total',
      'Content of peers whose bytes were not those of its digest.',
      ['kind'],
    ),
    peerRequests: counter('peer_requests_total', 'Requests to other nodes, by what came of them.', ['outcome']),
    hedges: counter('hedges_total', 'Peers asked because those before them were slow to answer.'),
    lookups: counter('lookups_total', 'Lookups in the swarm, by whether a peer was found.', ['found']),
    lookupSeconds: histogram(
      'lookup_seconds',
      'Time that lookups took to their first peer, or to their end without one.',
      ANSWER_BUCKETS,
      ['found'],
    ),
    checkFindings: gauge(
      'check_findings',
      'Findings of the last check of containerd and this node, by how they weigh.',
      ['severity'],
    ),
    peerDoorRefused: counter('peer_door_refused_total', 'Requests of other nodes that were refused, by why.', [
      'reason',
    ]),

    /** What there is, in the order in which it is shown. */
    descriptions: descriptions as readonly MetricDescription[],

    /** All of it in Prometheus' text format. */
    async render(): Promise<{ readonly contentType: string; readonly body: string }> {
      return { contentType: registry.contentType, body: await registry.metrics() }
    },
  }
}
