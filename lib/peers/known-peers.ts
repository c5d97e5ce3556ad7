import type { Key } from '../oci/key.ts'
import { addressOf } from '../platform/address.ts'
import { BoundedMap } from '../platform/bounded-map.ts'
import type { Clock } from '../platform/clock.ts'
import type { Peer } from '../swarm/router.ts'
import { Pace } from './pace.ts'
import { patientClock } from './patient-clock.ts'
import { TIMES } from './policy.ts'
import { type PeerFailure, Standing } from './standing.ts'

/** What this node knows about another one, for people. */
export interface PeerState
  extends Readonly<Pick<Standing, 'isConnected' | 'isBusy'> & Partial<Pick<Standing, 'headMs' | 'rate'>>> {
  /** The address of its peer door. */
  readonly address: string
  /** Milliseconds for which it stays aside; 0 if it is not. */
  readonly asideMs: number
  /** Its last failure, even if it has answered since, and how many milliseconds ago that was. */
  readonly failure?: { readonly why: PeerFailure; readonly agoMs: number } | undefined
}

/**
 * As many nodes as the largest clusters that Kubernetes supports. Entries that were not set for longest are forgotten first.
 */
const CAPACITY = 5_000
/** Peers are compared by the time that they need for this many bytes, a part of a medium layer. */
const COMPARED_BYTES = 1024 * 1024

/**
 * What this node knows about all others: the {@link Standing} of each, which ones gave wrong content, and the usual pace. It is
 * in memory and bounded, and nothing fails without it: an unknown peer counts as good as any.
 */
export class KnownPeers {
  /** What all peers together have needed lately. */
  readonly pace = new Pace()
  readonly #clock: Clock
  /** By address. */
  readonly #standings = new BoundedMap<Standing>(CAPACITY)
  /** Until when content is held against a peer, by {@link wrongKey}. */
  readonly #wrong = new BoundedMap<number>(CAPACITY)

  constructor(clock: Clock = patientClock) {
    this.#clock = clock
  }

  /** The standing of a peer; a new one for an unknown peer. */
  of(peer: Peer): Standing {
    const standing = this.#find(peer) ?? new Standing(this.#clock, this.pace)
    this.#standings.set(addressOf(peer), standing)
    return standing
  }

  /**
   * Call this if the peer's bytes do not match the digest or the tag. For a while the peer is not asked for this content again.
   *
   * @param isSuspect whether the peer gave only a part of the bytes, so that another peer may be to blame
   */
  wrongContent(peer: Peer, key: Key, isSuspect = false): void {
    this.#wrong.set(wrongKey(peer, key), this.#now + (isSuspect ? TIMES.suspect : TIMES.wrong))
  }

  /** Call this if the peer's bytes match the digest. */
  rightContent(peer: Peer, key: Key): void {
    this.#wrong.delete(wrongKey(peer, key))
  }

  isWrong(peer: Peer, key: Key): boolean {
    return (this.#wrong.get(wrongKey(peer, key)) ?? 0) > this.#now
  }

  /** Call this when the last Hyperswarm connection to the peer has ended, because the node or the way to it is dead. */
  gone(peer: Peer): void {
    this.of(peer).disconnected()
  }

  /** Call this when a Hyperswarm connection to the peer has opened. */
  seen(peer: Peer): void {
    this.of(peer).connected()
  }

  /** Whether the peer should not be asked now. */
  isAside(peer: Peer): boolean {
    return (this.#find(peer)?.asideUntil ?? 0) > this.#now
  }

  /** Whether it costs hardly any time to ask the peer although it is put aside: it refuses at once or works again. */
  isCheapToTry(peer: Peer): boolean {
    return this.#find(peer)?.lastFailure === 'unreachable'
  }

  /**
   * Sorts peers from the best to the worst. The criteria, in this order: not put aside; not busy, not mute; proven, by an
   * answer or a standing connection; fast; known to be alive. Equal peers stay in the order in which they were found, which is
   * random, so that load spreads.
   */
  rank<P extends Peer>(peers: readonly P[]): P[] {
    const { usual } = this.pace
    const places = peers.map((peer) => ({ peer, place: this.#place(peer, usual) }))
    return places.sort((a, b) => a.place - b.place).map(({ peer }) => peer)
  }

  /** The state, for people, of all nodes that this node has asked or has a connection to. */
  peers(): PeerState[] {
    const now = this.#now
    return [...this.#standings].map(([address, { isConnected, isBusy, headMs, rate, asideUntil, failure }]) => ({
      ...{ address, isConnected, isBusy, headMs, rate, asideMs: Math.max(asideUntil - now, 0) },
      failure: failure && { why: failure.why, agoMs: now - failure.at },
    }))
  }

  get #now(): number {
    return this.#clock.now()
  }

  #find(peer: Peer): Standing | undefined {
    return this.#standings.get(addressOf(peer))
  }

  /** Smaller is better. Each criterion is a digit of this number, so the first difference decides. */
  #place(peer: Peer, usual: Pace['usual']): number {
    const standing = this.#find(peer)
    const isLast = standing?.isBusy === true || standing?.isMute === true
    // Only members have a connection, because both sides prove the swarm key on it.
    const isProven = standing?.proven === true || standing?.isConnected === true
    // In powers of two, because smaller differences are chance. There are fewer than 100 values.
    const cost = Math.round(Math.log2(costOf(standing, usual)))
    const faults = [this.isAside(peer), isLast, !isProven].reduce((sum, is) => sum * 10 + Number(is), 0)
    return (faults * 100 + cost) * 10 + Number(standing?.isAlive !== true)
  }
}

/** Milliseconds that a part of a layer would take. Unknown figures of a peer count as usual. */
function costOf(standing: Standing | undefined, usual: Pace['usual']): number {
  const rate = standing?.rate ?? usual.rate
  return Math.max((standing?.headMs ?? usual.head) + (rate === undefined ? 0 : COMPARED_BYTES / rate), 1)
}

function wrongKey(peer: Peer, key: Key): string {
  return `${addressOf(peer)} ${key}`
}
