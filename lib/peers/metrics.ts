import type { Metrics } from '../observe/metrics.ts'
import type { KnownPeers } from './known-peers.ts'

/** Registers the metrics of known peers. */
export function registerPeerMetrics({ gaugeFrom }: Metrics, known: Pick<KnownPeers, 'peers'>): void {
  gaugeFrom(
    'peers_connected',
    'Members of the swarm that this node has a proven connection to.',
    () => known.peers().filter(({ isConnected }) => isConnected).length,
  )
  gaugeFrom(
    'peers_aside',
    'Peers that are put aside at this moment.',
    () => known.peers().filter(({ asideMs }) => asideMs > 0).length,
  )
}
