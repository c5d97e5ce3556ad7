import type { Digest } from '../oci/digest.ts'
import { addressOf } from '../platform/address.ts'
import type { Clock } from '../platform/clock.ts'
import type { Peer } from '../swarm/router.ts'
import { BoundedMap } from './bounded-map.ts'
import { type HedgeBounds, Pace, type Usual } from './pace.ts'
import { patientClock } from './patient-clock.ts'
import { type PeerFailure, PeerRecord, type Probation } from './record.ts'

export type { PeerFailure } from './record.ts'

export interface PeerHealthOptions {
  /** Milliseconds for which a peer is put aside after its first failure; doubled with each one in a row. */
  readonly probation?: number
  /** Longest probation in milliseconds. */
  readonly longestProbation?: number
  /** Shortest and longest hedging delay in milliseconds. */
  readonly hedge?: HedgeBounds
  /** How many peers, and how many pairs of peer and wrong digest, are remembered; the longest unused go first. */
  readonly capacity?: number
}

/** What is known of another node. */
export interface PeerState {
  /** Of its door. */
  readonly address: string
  /** Whether a Hyperswarm connection to it stands. */
  readonly isConnected: boolean
  /** Milliseconds for which it is still put aside; 0 if it is not. */
  readonly asideMs: number
  /** Why it is, or was last, put aside, if it was not heard of since. */
  readonly lastFailure?: PeerFailure | undefined
  readonly isBusy: boolean
  /** Milliseconds that its heads take, and bytes per millisecond that it gives, on average. */
  readonly headMs?: number | undefined
  readonly rate?: number | undefined
}

/** A mirror's pod that restarts is back within seconds; a pull of an image asks for some ten blobs in that time. */
const PROBATION = 1_000
const LONGEST_PROBATION = 30_000
/** Nodes of the largest clusters that Kubernetes supports. */
const CAPACITY = 5_000
/** For how long wrong content of a digest is held against a peer, in milliseconds: disks are repaired, blobs pulled anew. */
const WRONG_CONTENT_TIME = 10 * 60_000
/** The same if it may have been another one, in milliseconds: kubelet's next tries come after 10, 20 and 40 s. */
const SUSPECT_TIME = 60_000
/** What a peer's rate is compared by: the time that it takes for this many bytes, a middling layer's part. */
const COMPARED_BYTES = 1024 * 1024

/**
 * What this node knows of other nodes' doors: who is put aside, who is fast, and what is usual. In memory, bounded, and
 * never a reason to fail: a peer that nobody has heard of is as good as any.
 */
export class PeerHealth {
  readonly #clock: Clock
  readonly #probation: Probation
  readonly #pace: Pace
  /** By address. */
  readonly #records: BoundedMap<PeerRecord>
  /** Until when content of a digest is held against a door, by {@link wrongKey}. */
  readonly #wrong: BoundedMap<number>

  constructor(options: PeerHealthOptions = {}, clock: Clock = patientClock) {
    this.#clock = clock
    this.#probation = {
      first: options.probation ?? PROBATION,
      longest: options.longestProbation ?? LONGEST_PROBATION,
    }
    this.#pace = new Pace(options.hedge)
    const capacity = options.capacity ?? CAPACITY
    this.#records = new BoundedMap(capacity)
    this.#wrong = new BoundedMap(capacity)
  }

  /**
   * It refused, was silent or answered nonsense: it is put aside for all topics, longer each time in a row. One that is
   * silent but seems to be busy is not put aside, but comes last for a while: it may be the only one.
   *
   * @returns whether it seems to be busy
   */
  failed(peer: Peer, why: PeerFailure): boolean {
    const record = this.#of(peer)
    if (why === 'silent') return record.silent(this.#now, this.#probation)
    record.putAside(why, this.#now, this.#probation)
    return false
  }

  /**
   * A body of it failed before its first byte. It comes after all that give some; as long as it may only be busy, it is not
   * put aside: it may be the only one.
   */
  withheld(peer: Peer, why: PeerFailure): void {
    this.#of(peer).withheld(why, this.#now, this.#probation)
  }

  /** It has too much to do (503): it comes last for the time that it asks for. */
  busy(peer: Peer, retryAfterMs: number): void {
    this.#of(peer).busy(retryAfterMs, this.#now)
  }

  /** It gave the head of an answer, which it needed that long for. */
  answered(peer: Peer, headMs: number): void {
    this.#of(peer).answered(headMs, this.#now)
    this.#pace.addHead(headMs)
  }

  /** It gave a byte: whatever else it does not answer to, it is not dead. */
  gave(peer: Peer): void {
    this.#find(peer)?.gave(this.#now)
  }

  /** Whether it gave a byte, to whichever request of this node, after that time of the clock. */
  isGivingSince(peer: Peer, time: number): boolean {
    return (this.#find(peer)?.gaveAt ?? Number.NEGATIVE_INFINITY) > time
  }

  /**
   * Whether it may still answer although it was waited for in vain: it has just been heard of, or the connection to its
   * node stands and it has not been silent for long.
   */
  mayAnswer(peer: Peer): boolean {
    return this.#find(peer)?.mayAnswer(this.#now) === true
  }

  /** It had not answered yet when another one did. Its time is at least that long; leaving it out would flatter it. */
  outrun(peer: Peer, waitedMs: number): void {
    this.#of(peer).waitedFor(waitedMs)
    this.#pace.addHead(waitedMs)
  }

  /** It gave that many bytes in the milliseconds in which bytes were waited for. */
  moved(peer: Peer, bytes: number, ms: number): void {
    const rate = bytes / Math.max(ms, 1)
    this.#of(peer).moved(rate)
    this.#pace.addRate(rate)
  }

  /** One of its answers proved the swarm key. */
  proven(peer: Peer): void {
    this.#of(peer).proven = true
  }

  /**
   * Its bytes are not those of the digest: it is not asked for it again, for a while.
   *
   * @param isSuspect whether it gave only a part of them, so that it may have been another one's fault
   */
  wrongContent(peer: Peer, digest: Digest, isSuspect = false): void {
    const time = isSuspect ? SUSPECT_TIME : WRONG_CONTENT_TIME
    this.#wrong.set(wrongKey(peer, digest), this.#now + time)
  }

  isWrong(peer: Peer, digest: Digest): boolean {
    return (this.#wrong.get(wrongKey(peer, digest)) ?? 0) > this.#now
  }

  /** Its Hyperswarm connection ended: the node died, or the way to it. */
  gone(peer: Peer): void {
    this.#of(peer).gone(this.#now, this.#probation)
  }

  /** Its Hyperswarm connection has opened: what was held against its node before is over. */
  seen(peer: Peer): void {
    this.#of(peer).revive()
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
  rank(peers: readonly Peer[]): Peer[] {
    const { usual } = this.#pace
    const places = peers.map((peer) => ({ peer, place: this.#place(peer, usual) }))
    return places.sort((a, b) => compare(a.place, b.place)).map(({ peer }) => peer)
  }

  /** How long to wait for a head before the next peer is asked too, in milliseconds. */
  hedgeDelay(): number {
    return this.#pace.hedgeDelay()
  }

  /** Bytes per millisecond that peers usually give; `undefined` before there are enough measurements to say. */
  usualRate(): number | undefined {
    return this.#pace.usualRate()
  }

  /** How many peers are put aside at this moment. */
  get aside(): number {
    let count = 0
    for (const { asideUntil } of this.#records.values()) if (asideUntil > this.#now) count++
    return count
  }

  /** How many members this node has a Hyperswarm connection to. */
  get connected(): number {
    return [...this.#records.values()].filter(({ isConnected }) => isConnected).length
  }

  /** What is known of other nodes, for people: those that were asked, and those that this node has a connection to. */
  peers(): PeerState[] {
    const now = this.#now
    return [...this.#records.entries()].map(([address, record]) => ({
      address,
      isConnected: record.isConnected,
      asideMs: Math.max(record.asideUntil - now, 0),
      lastFailure: record.lastFailure,
      isBusy: record.isBusy(now),
      headMs: record.headMs,
      rate: record.rate,
    }))
  }

  #find(peer: Peer): PeerRecord | undefined {
    return this.#records.get(addressOf(peer))
  }

  /** The record of the peer, which is made if there is none. */
  #of(peer: Peer): PeerRecord {
    const record = this.#find(peer) ?? new PeerRecord()
    this.#records.set(addressOf(peer), record)
    return record
  }

  get #now(): number {
    return this.#clock.now()
  }

  /** Smaller is better, the first difference counts. */
  #place(peer: Peer, usual: Usual): readonly number[] {
    const now = this.#now
    const record = this.#find(peer)
    // Only members have one: both sides have proven the swarm key on it.
    const isConnected = record?.isConnected === true
    return [
      Number(this.isAside(peer)),
      Number(record?.isBusy(now) === true || record?.withholds(now) === true),
      Number(record?.proven !== true && !isConnected),
      // In powers of two: less than that is chance.
      Math.round(Math.log2(costOf(record, usual))),
      Number(record?.isAlive(now) !== true && !isConnected),
    ]
  }
}

/** Milliseconds that a part of a layer would take. What is not known of a peer is taken to be as usual. */
function costOf(record: PeerRecord | undefined, usual: Usual): number {
  const rate = record?.rate ?? usual.rate
  return Math.max((record?.headMs ?? usual.head) + (rate === undefined ? 0 : COMPARED_BYTES / rate), 1)
}

function compare(a: readonly number[], b: readonly number[]): number {
  for (const [index, value] of a.entries()) {
    const difference = value - (b[index] ?? 0)
    if (difference !== 0) return difference
  }
  return 0
}

function wrongKey(peer: Peer, digest: Digest): string {
  return `${addressOf(peer)} ${digest}`
}
