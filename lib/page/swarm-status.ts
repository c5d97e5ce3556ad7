import type { PeerState } from '../peers/known-peers.ts'
import type { Counted } from './census.ts'
import type { NodeStatus, SwarmStatus } from './status.ts'

/** Nodes that are listed. */
const LISTED = 300
/** For how long a failure counts as something wrong, in milliseconds. */
const RECENT = 60_000

/** Puts together what members tell of themselves and what is known of them as peers. */
export function swarmStatus(
  { size, counted, peers }: { size: number; counted: readonly Counted[]; peers: readonly PeerState[] },
  listed: number = LISTED,
): SwarmStatus {
  const nodes = new Map<string, NodeStatus>(counted.map((one) => [one.address, one]))
  for (const peer of peers) {
    const { address } = peer
    nodes.set(address, { ...(nodes.get(address) ?? { address, isMute: false }), peer })
  }
  const versions = [...Map.groupBy(counted, ({ told }) => told?.version)]
    .flatMap(([version, those]) => (version === undefined ? [] : [[version, those.length] as const]))
    .sort(([, a], [, b]) => b - a)
  const isWrong = ({ told, isMute, peer }: NodeStatus) =>
    isMute ||
    (peer !== undefined && (peer.asideMs > 0 || peer.isBusy || (peer.failure?.agoMs ?? RECENT) < RECENT)) ||
    (told !== undefined && told.version !== versions[0]?.[0])
  const byName = new Intl.Collator('en', { numeric: true })
  const sorted = [...nodes.values()].sort(
    (a, b) =>
      Number(isWrong(b)) - Number(isWrong(a)) ||
      byName.compare(a.told?.name ?? '', b.told?.name ?? '') ||
      byName.compare(a.address, b.address),
  )
  return {
    size,
    connected: peers.filter(({ isConnected }) => isConnected).length,
    aside: peers.filter(({ asideMs }) => asideMs > 0).length,
    versions,
    nodes: sorted.slice(0, listed),
    more: Math.max(sorted.length - listed, 0),
  }
}
