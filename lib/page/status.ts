import type { Pull, Totals } from '../observe/activity.ts'
import type { PeerState } from '../peers/known-peers.ts'
import type { UpstreamState } from '../upstream/upstreams.ts'
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

/** All that the page shows. Times are in milliseconds, points in time since 1970. */
export interface Status {
  readonly time: number
  /** What does not change while the mirror runs. */
  readonly node: {
    readonly version: string
    readonly runtime: string
    /** The address of its peer door. */
    readonly address: string
    /** Where its images are. */
    readonly store: string
    readonly startedAt: number
  }
  readonly ready: boolean
  /** Why not, in words, and what there is to say although it is ready. */
  readonly reasons: readonly string[]
  /** Missing where there is no containerd to check, or before the first check. */
  readonly findings?: readonly ShownFinding[] | undefined
  /** `--resolve`. */
  readonly resolve: 'fallback' | 'upstream' | 'swarm'
  /** Registries that were asked for lately, and who says what their tags mean and who may pull. */
  readonly registries: readonly (UpstreamState & { readonly resolvedBy: 'upstream' | 'swarm' })[]
  readonly neighbours: number
  readonly peers: readonly PeerState[]
  /** Peers beyond those that are listed. */
  readonly morePeers: number
  readonly held: Held
  readonly totals: Totals
  /** Bytes given to other nodes. */
  readonly given: number
  readonly pulls: readonly Pull[]
  /** Names of other nodes, by their addresses, as far as they are known. */
  readonly names: Readonly<Record<string, string>>
}
