import type { Digest } from '../oci/digest.ts'
import { addressOf } from '../platform/address.ts'
import type { Clock } from '../platform/clock.ts'
import type { Arrival } from '../store/arrival.ts'
import type { Peer } from '../swarm/router.ts'
import type { Source } from './flight.ts'
import { MOST_NAMED } from './message.ts'

/** Milliseconds for which a peer that was given up is not named again. */
const LEFT_LIFE = 10_000
/** The same for one that gave to another node: that one may be gone in a moment, and there may be nobody else. */
const REFUSED_LIFE = 500

/** A digest that a client of this node is getting. */
export class Download {
  readonly digest: Digest
  readonly since: number
  /**
   * `peers`: it waits until this node has found peers, or gets it from them, perhaps from a parent as it arrives there.
   * `upstream`: it was sent there, at that time. `again`: it was told to ask again.
   */
  way:
    | { readonly kind: 'peers'; readonly parent?: Peer }
    | { readonly kind: 'upstream'; readonly at: number }
    | { readonly kind: 'again' } = { kind: 'peers' }
  /** How often it was told to ask again. */
  returns = 0
  /** What it is part of, if that is known. */
  image: string | undefined
  /** Since when the peer that it is to follow waits for its turn. */
  parentLateSince: number | undefined
  /** Whether the peer that it follows gets it from upstream. */
  doesParentLead = false
  /**
   * Whether it has left a leader that was too slow. Nobody leaves this one for that: the registry may be slow for all, and would
   * have to give it to each.
   */
  isChallenger = false
  /** From whom it had better get it than from the peer that it follows, as a keeper has said. */
  better: Source | undefined
  /** When it began to follow the present peer, and how much was there then. */
  followed: { readonly at: number; readonly written: number } | undefined
  /** When it had its first bytes, and how many. */
  begun: { readonly at: number; readonly written: number } | undefined
  /** Whether all of it has come, and the store does not hold it yet. */
  isComplete = false
  /** Whether keepers know of it. */
  isClaimed = false
  /** Whether keepers let it wait until another node has what is verified. */
  mustWait = false
  /** Whether a keeper has said that whoever it follows will get nothing. */
  isReleased = false
  arrival: Arrival | undefined
  /** When it is known whether it arrives. */
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

  /** Whether all of it has come. */
  get hasAll(): boolean {
    return this.isComplete || (this.arrival?.size !== undefined && this.arrival.written >= this.arrival.size)
  }

  /** Peers that were given up lately. */
  get left(): Peer[] {
    const now = this.#clock.now()
    for (const [address, { until }] of this.#left) if (until < now) this.#left.delete(address)
    return [...this.#left.values()].map(({ peer }) => peer).slice(-MOST_NAMED)
  }

  follow(parent: Peer): Source {
    this.way = { kind: 'peers', parent }
    this.followed = { at: this.#clock.now(), written: this.arrival?.written ?? 0 }
    return { ...parent, isArriving: true }
  }

  leave(peer: Peer, isRefused: boolean): void {
    this.#left.delete(addressOf(peer))
    this.#left.set(addressOf(peer), { peer, until: this.#clock.now() + (isRefused ? REFUSED_LIFE : LEFT_LIFE) })
    if (this.way.kind === 'peers') this.way = { kind: 'peers' }
    this.better = undefined
  }
}
