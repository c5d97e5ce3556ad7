import type { Metrics } from '../observe/metrics.ts'

/** Registers the metrics of known peers. */
export function registerPeerMetrics(
  { gaugeFrom }: Metrics,
  health: { readonly connected: number; readonly aside: number },
): void {
  gaugeFrom(
    'peers_connected',
    'Members of the swarm that this node has a proven connection to.',
    () => health.connected,
  )
  gaugeFrom('peers_aside', 'Peers that are put aside at this moment.', () => health.aside)
}
