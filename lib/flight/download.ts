import type { Digest } from '../oci/digest.ts'
import { addressOf } from '../platform/address.ts'
import type { Clock } from '../platform/clock.ts'
import type { Arrival } from '../store/arrival.ts'
import type { Peer } from '../swarm/router.ts'
import type { Source } from './flight.ts'
import { MOST_NAMED } from './message.ts'

/** Milliseconds for which keepers are asked not to name a peer again that was left. */
const LEFT_LIFE = 10_000
/** The same for a peer that was busy with another follower: it may be free in a moment, and there may be nobody else. */
const REFUSED_LIFE = 500

/** A digest that containerd on this node is getting. */
export class Download {
  readonly digest: Digest
  readonly since: number
  /**
   * `peers`: this node looks for peers, or gets it from them; `parent` is the one that it follows. `upstream`: containerd was sent
   * there at that time. `again`: containerd was told to ask again.
   */
  way:
    | { readonly kind: 'peers'; readonly parent?: Peer }
    | { readonly kind: 'upstream'; readonly at: number }
    | { readonly kind: 'again' } = { kind: 'peers' }
  /** How often containerd was told to ask again. */
  returns = 0
  /** The image that it is part of, if known. */
  image: string | undefined
  /** Since when its parent waits for its turn. */
  parentLateSince: number | undefined
  /** Whether its parent gets it from upstream. */
  doesParentLead = false
  /**
   * Whether it has left a leader that was too slow. Nobody leaves this node for the same reason: the registry may be slow for all,
   * and would have to send the content to each of them.
   */
  isChallenger = false
  /** A better source than its parent, as a keeper has said. */
  better: Source | undefined
  /** When it began to follow its parent, and how many bytes it had then. */
  followed: { readonly at: number; readonly written: number } | undefined
  /** When its first bytes came, and how many they were. */
  begun: { readonly at: number; readonly written: number } | undefined
  /** Whether it is complete, but not in the store yet. */
  isComplete = false
  /** Whether keepers know that this node is getting it. */
  isClaimed = false
  /** Whether keepers let it wait until another node has verified content. */
  mustWait = false
  /** Whether a keeper has said that its parent will get nothing. */
  isReleased = false
  arrival: Arrival | undefined
  /** Settled as soon as it is known whether it arrives. */
  readonly found = Promise.withResolvers<void>()
  readonly #left = new Map<string, { readonly peer: Peer; readonly until: number }>()
  readonly #clock: Clock

  constructor(digest: Digest, clock: Clock) {
    this.digest = digest
    this.since = clock.now()
    this.#clock = clock
  }

  get hasBegun(): boolean {
    return (this.arrival?.written ?? 0) > 0
  }

  /** Whether all its bytes are here. */
  get hasAll(): boolean {
    return this.isComplete || (this.arrival?.size !== undefined && this.arrival.written >= this.arrival.size)
  }

  /** Bytes per millisecond since its first ones came. */
  get pace(): number {
    const { arrival, begun } = this
    if (arrival === undefined || begun === undefined) return 0
    return (arrival.written - begun.written) / Math.max(this.#clock.now() - begun.at, 1)
  }

  /** The peers that were left lately. */
  get left(): Peer[] {
    const now = this.#clock.now()
    for (const [address, { until }] of this.#left) if (until < now) this.#left.delete(address)
    return [...this.#left.values()].map(({ peer }) => peer).slice(-MOST_NAMED)
  }

  forgetLeft(): void {
    this.#left.clear()
  }

  /** @param crowd how many other nodes are getting it */
  follow(parent: Peer, crowd = 0): Source {
    this.way = { kind: 'peers', parent }
    this.followed = { at: this.#clock.now(), written: this.arrival?.written ?? 0 }
    return { ...parent, isArriving: true, ...(crowd > 0 && { crowd }) }
  }

  leave(peer: Peer, isRefused: boolean): void {
    this.#left.delete(addressOf(peer))
    this.#left.set(addressOf(peer), { peer, until: this.#clock.now() + (isRefused ? REFUSED_LIFE : LEFT_LIFE) })
    if (this.way.kind === 'peers') this.way = { kind: 'peers' }
    this.better = undefined
  }
}
