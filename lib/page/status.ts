import type { Pull, Totals } from '../observe/activity.ts'
import type { HistoryStatus } from '../observe/history.ts'
import type { PeerState } from '../peers/known-peers.ts'
import type { UpstreamState } from '../upstream/upstreams.ts'
import type { Counted } from './census.ts'
import type { Held } from './holdings.ts'

/** A finding of the check, as the page shows it. */
export interface ShownFinding {
  readonly id: string
  readonly severity: 'error' | 'warning' | 'unknown' | 'ok'
  readonly seen: string
  readonly expected: string
  readonly why: string
  /** What to do, as text of several lines. */
  readonly remedy?: string | undefined
}

/** A node: what it tells about itself, and what this node knows of it as a peer. */
export interface NodeStatus extends Counted {
  /** Missing if this node has never asked it for content and has no connection to it. */
  readonly peer?: PeerState | undefined
}

export interface SwarmStatus {
  /** Members that this node knows, itself included. */
  readonly size: number
  readonly connected: number
  readonly aside: number
  /** How many members run each version, as far as they have told it. The most common version comes first. */
  readonly versions: readonly (readonly [version: string, members: number])[]
  /** Members, and other peers that this node knows. Nodes with a problem come first. */
  readonly nodes: readonly NodeStatus[]
  /** How many more nodes there are than are listed. */
  readonly more: number
}

/** Everything that the page shows. Times are in milliseconds, points in time since 1970. */
export interface Status {
  readonly time: number
  /** Values that do not change while the mirror runs. */
  readonly node: {
    readonly version: string
    readonly runtime: string
    /** The address of its peer door. */
    readonly address: string
    /** The kind of its store. */
    readonly store: string
    readonly startedAt: number
  }
  readonly ready: boolean
  /** Why the mirror is not ready, in words, and notes that do not keep it from being ready. */
  readonly reasons: readonly string[]
  /** Missing where there is no containerd to check, or before the first check. */
  readonly findings?: readonly ShownFinding[] | undefined
  /** `--resolve`. */
  readonly resolve: 'fallback' | 'upstream' | 'swarm'
  /** Registries that were asked for lately, and who resolves for each. */
  readonly registries: readonly (UpstreamState & { readonly resolvedBy: 'upstream' | 'swarm' })[]
  readonly swarm: SwarmStatus
  readonly held: Held
  readonly totals: Totals
  /** Bytes given to other nodes. */
  readonly given: number
  readonly pulls: readonly Pull[]
  /** The addresses of the nodes that get content from this node while it arrives, by digest. */
  readonly followers: Readonly<Record<string, string>>
  readonly history: HistoryStatus
}

/** How many nodes are listed. */
const LISTED = 300
/** Milliseconds for which a failure counts as a problem. */
const RECENT = 60_000

/** Combines what members tell about themselves with what this node knows of them as peers. */
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
