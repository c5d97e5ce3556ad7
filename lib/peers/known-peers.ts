import type { Key } from '../oci/key.ts'
import { addressOf } from '../platform/address.ts'
import { BoundedMap } from '../platform/bounded-map.ts'
import type { Clock } from '../platform/clock.ts'
import type { Peer } from '../swarm/router.ts'
import { Pace } from './pace.ts'
import { patientClock } from './patient-clock.ts'
import { TIMES } from './policy.ts'
import { type PeerFailure, Standing } from './standing.ts'

/** What is known of another node, for people. */
export interface PeerState {
  /** Of its door. */
  readonly address: string
  /** Whether a Hyperswarm connection to it stands. */
  readonly isConnected: boolean
  /** Milliseconds for which it is still put aside; 0 if it is not. */
  readonly asideMs: number
  /** Its last failure, also if it was heard of since, and how many milliseconds ago that was. */
  readonly failure?: { readonly why: PeerFailure; readonly agoMs: number } | undefined
  readonly isBusy: boolean
  /** Milliseconds that its heads take, and bytes per millisecond that it gives, on average. */
  readonly headMs?: number | undefined
  readonly rate?: number | undefined
}

/** Nodes of the largest clusters that Kubernetes supports. Of peers and of wrong content, the longest unused is forgotten first. */
const CAPACITY = 5_000
/** Peers are compared by the time that this many bytes take: a middling layer's part. */
const COMPARED_BYTES = 1024 * 1024

/**
 * What this node knows of all others: the {@link Standing} of each, who gave wrong content, and what is usual. In memory,
 * bounded, and never a reason to fail: an unknown peer is as good as any.
 */
export class KnownPeers {
  /** What all of them together have needed lately. */
  readonly pace = new Pace()
  readonly #clock: Clock
  /** By address. */
  readonly #standings = new BoundedMap<Standing>(CAPACITY)
  /** Until when content is held against a peer, by {@link wrongKey}. */
  readonly #wrong = new BoundedMap<number>(CAPACITY)

  constructor(clock: Clock = patientClock) {
    this.#clock = clock
  }

  /** What is known of the peer, also of one that was not heard of before. */
  of(peer: Peer): Standing {
    const standing = this.#find(peer) ?? new Standing(this.#clock, this.pace)
    this.#standings.set(addressOf(peer), standing)
    return standing
  }

  /**
   * Its bytes are not those of the digest, or of the tag: it is not asked for that again, for a while.
   *
   * @param isSuspect whether it gave only a part of them, so that another peer may be to blame
   */
  wrongContent(peer: Peer, key: Key, isSuspect = false): void {
    this.#wrong.set(wrongKey(peer, key), this.#now + (isSuspect ? TIMES.suspect : TIMES.wrong))
  }

  /** Its bytes are those of the digest. */
  rightContent(peer: Peer, key: Key): void {
    this.#wrong.delete(wrongKey(peer, key))
  }

  isWrong(peer: Peer, key: Key): boolean {
    return (this.#wrong.get(wrongKey(peer, key)) ?? 0) > this.#now
  }

  /** Its last Hyperswarm connection has ended: the node died, or the way to it. */
  gone(peer: Peer): void {
    this.of(peer).disconnected()
  }

  /** A Hyperswarm connection to it has opened. */
  seen(peer: Peer): void {
    this.of(peer).connected()
  }

  /** Whether it should not be asked now. */
  isAside(peer: Peer): boolean {
    return (this.#find(peer)?.asideUntil ?? 0) > this.#now
  }

  /** Whether asking it although it is put aside costs no time worth speaking of: it refuses at once or works again. */
  isCheapToTry(peer: Peer): boolean {
    return this.#find(peer)?.lastFailure === 'unreachable'
  }

  /**
   * The peers from the best to the last: those not put aside, not busy nor without bytes, proven (by an answer, or by a
   * connection that stands), fast, known to be alive. Peers between which nothing stands stay in the order in which they
   * were found, which is random, so that load spreads.
   */
  rank<P extends Peer>(peers: readonly P[]): P[] {
    const { usual } = this.pace
    const places = peers.map((peer) => ({ peer, place: this.#place(peer, usual) }))
    return places.sort((a, b) => a.place - b.place).map(({ peer }) => peer)
  }

  /** How many peers are put aside at this moment. */
  get aside(): number {
    return [...this.#standings.values()].filter(({ asideUntil }) => asideUntil > this.#now).length
  }

  /** How many members this node has a Hyperswarm connection to. */
  get connected(): number {
    return [...this.#standings.values()].filter(({ isConnected }) => isConnected).length
  }

  /** What is known of other nodes, for people: those that were asked, and those that this node has a connection to. */
  peers(): PeerState[] {
    const now = this.#now
    return [...this.#standings.entries()].map(([address, standing]) => ({
      address,
      isConnected: standing.isConnected,
      asideMs: Math.max(standing.asideUntil - now, 0),
      failure: standing.failure && { why: standing.failure.why, agoMs: now - standing.failure.at },
      isBusy: standing.isBusy,
      headMs: standing.headMs,
      rate: standing.rate,
    }))
  }

  get #now(): number {
    return this.#clock.now()
  }

  #find(peer: Peer): Standing | undefined {
    return this.#standings.get(addressOf(peer))
  }

  /** Smaller is better: of the digits of this number, the first difference counts. */
  #place(peer: Peer, usual: Pace['usual']): number {
    const standing = this.#find(peer)
    const isLast = standing?.isBusy === true || standing?.isMute === true
    // Only members have a connection: both sides have proven the swarm key on it.
    const isProven = standing?.proven === true || standing?.isConnected === true
    // In powers of two: less than that is chance. There are fewer than 100 of them.
    const cost = Math.round(Math.log2(costOf(standing, usual)))
    const faults = [this.isAside(peer), isLast, !isProven].reduce((sum, is) => sum * 10 + Number(is), 0)
    return (faults * 100 + cost) * 10 + Number(standing?.isAlive !== true)
  }
}

/** Milliseconds that a part of a layer would take. What is not known of a peer is taken to be as usual. */
function costOf(standing: Standing | undefined, usual: Pace['usual']): number {
  const rate = standing?.rate ?? usual.rate
  return Math.max((standing?.headMs ?? usual.head) + (rate === undefined ? 0 : COMPARED_BYTES / rate), 1)
}

function wrongKey(peer: Peer, key: Key): string {
  return `${addressOf(peer)} ${key}`
}
