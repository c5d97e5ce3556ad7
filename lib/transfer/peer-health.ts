import type { Digest } from '../oci/digest.ts'
import { addressOf, type Peer } from '../swarm/router.ts'
import { BoundedMap } from './bounded-map.ts'
import { type Clock, systemClock } from './clock.ts'
import { type HedgeBounds, Pace, type Usual } from './pace.ts'

/**
 * Why a peer failed. `unreachable`: it refused the connection or closed it, which costs nothing to find out again.
 * `silent`: no answer or no byte in time, which costs that time. `invalid`: an answer that cannot be right, or without
 * the proof of the swarm key.
 */
export type PeerFailure = 'unreachable' | 'silent' | 'invalid'

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

/** A mirror's pod that restarts is back within seconds; a pull of an image asks for some ten blobs in that time. */
const PROBATION = 1_000
const LONGEST_PROBATION = 30_000
/** Nodes of the largest clusters that Kubernetes supports. */
const CAPACITY = 5_000
/** For how long wrong content of a digest is held against a peer, in milliseconds: disks are repaired, blobs pulled anew. */
const WRONG_CONTENT_TIME = 10 * 60_000
/** The same if it may have been another one, in milliseconds: kubelet's next tries come after 10, 20 and 40 s. */
const SUSPECT_TIME = 60_000
/** Longest that a peer's own word on being busy counts, in milliseconds: it must not put itself aside for good. */
const LONGEST_BUSY = 10_000
/** How long Hyperswarm's or an answer's word that a peer lives counts, in milliseconds. */
const ALIVE_TIME = 60_000
/** Weight of the newest measurement in a peer's own average. */
const WEIGHT = 0.3
/** What a peer's rate is compared by: the time that it takes for this many bytes, a middling layer's part. */
const COMPARED_BYTES = 1024 * 1024

interface Known {
  /** The id of the node there, as far as a Hyperswarm connection has shown. */
  member: string | undefined
  /** The id of the node there that Hyperswarm has told to be gone, if nothing else has been heard of the door since. */
  departed: string | undefined
  failures: number
  asideUntil: number
  lastFailure: PeerFailure | undefined
  busyUntil: number
  aliveUntil: number
  proven: boolean
  headMs: number | undefined
  /** Bytes per millisecond. */
  rate: number | undefined
}

/**
 * What this node knows of other nodes' doors: who is put aside, who is fast, and what is usual. In memory, bounded, and
 * never a reason to fail: a peer that nobody has heard of is as good as any. Doors are told by their addresses, since what a
 * node announced before it started again is found under its former id for a while.
 */
export class PeerHealth {
  readonly #clock: Clock
  readonly #probation: number
  readonly #longestProbation: number
  readonly #pace: Pace
  /** By address. */
  readonly #records: BoundedMap<Known>
  /** The addresses of ids, for Hyperswarm's word. */
  readonly #addresses: BoundedMap<string>
  /** The ids whose Hyperswarm connections stand. */
  readonly #connected: BoundedMap<true>
  /** Until when content of a digest is held against a door, by {@link wrongKey}. */
  readonly #wrong: BoundedMap<number>
  /** Until when peers are put aside by Hyperswarm's word, by id: their doors may not be known yet. */
  readonly #gone: BoundedMap<number>

  constructor(options: PeerHealthOptions = {}, clock: Clock = systemClock) {
    this.#clock = clock
    this.#probation = options.probation ?? PROBATION
    this.#longestProbation = options.longestProbation ?? LONGEST_PROBATION
    this.#pace = new Pace(options.hedge)
    const capacity = options.capacity ?? CAPACITY
    this.#records = new BoundedMap(capacity)
    this.#addresses = new BoundedMap(capacity)
    this.#connected = new BoundedMap(capacity)
    this.#wrong = new BoundedMap(capacity)
    this.#gone = new BoundedMap(capacity)
  }

  /** It refused, timed out or answered nonsense: it is put aside for all topics, longer each time in a row. */
  failed(peer: Peer, why: PeerFailure): void {
    const record = this.#of(peer)
    record.departed = undefined
    this.#putAside(record, why)
  }

  /** It has too much to do (503): it comes last for the time that it asks for. */
  busy(peer: Peer, retryAfterMs: number): void {
    this.#of(peer).busyUntil = this.#now + Math.min(Math.max(retryAfterMs, 0), LONGEST_BUSY)
  }

  /** It gave the head of an answer, which it needed that long for. */
  answered(peer: Peer, headMs: number): void {
    const record = this.#of(peer)
    record.failures = 0
    record.asideUntil = 0
    record.lastFailure = undefined
    record.aliveUntil = this.#now + ALIVE_TIME
    record.headMs = average(record.headMs, headMs)
    this.#pace.addHead(headMs)
    this.#gone.delete(peer.id)
  }

  /** It had not answered yet when another one did. Its time is at least that long; leaving it out would flatter it. */
  outrun(peer: Peer, waitedMs: number): void {
    const record = this.#of(peer)
    record.headMs = Math.max(average(record.headMs, waitedMs), record.headMs ?? 0)
    this.#pace.addHead(waitedMs)
  }

  /** It gave that many bytes in the milliseconds in which bytes were waited for. */
  moved(peer: Peer, bytes: number, ms: number): void {
    const rate = bytes / Math.max(ms, 1)
    const record = this.#of(peer)
    record.rate = average(record.rate, rate)
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

  /** Its Hyperswarm connection ended: the node died, or the way to it. A node that has started again in its place is not meant. */
  gone(peerId: string): void {
    this.#gone.set(peerId, this.#now + this.#probation)
    this.#connected.delete(peerId)
    const record = this.#records.get(this.#addresses.get(peerId) ?? '')
    if (record === undefined || (record.member ?? peerId) !== peerId) return
    record.member = undefined
    record.departed = peerId
    this.#putAside(record, 'silent')
  }

  /** Its Hyperswarm connection stands: what was held against its node before is over. */
  seen(peerId: string): void {
    this.#gone.delete(peerId)
    this.#connected.set(peerId, true)
    const record = this.#records.get(this.#addresses.get(peerId) ?? '')
    if (record !== undefined) this.#revive(record, peerId)
  }

  /** Whether it should not be asked now. */
  isAside(peer: Peer): boolean {
    const until = Math.max(this.#find(peer)?.asideUntil ?? 0, this.#gone.get(peer.id) ?? 0)
    return until > this.#now
  }

  /**
   * Whether asking it although it is put aside costs no time worth speaking of: it refuses at once or works again. So it
   * is, too, with a node that has announced itself from where another one is gone: it is that one, started again.
   */
  isCheapToTry(peer: Peer): boolean {
    if (this.#gone.get(peer.id) !== undefined) return false
    const record = this.#find(peer)
    const isSuccessor = record?.departed !== undefined && record.departed !== peer.id
    return isSuccessor || record?.lastFailure === 'unreachable'
  }

  /**
   * The peers from the best to the last: those not put aside, not busy, proven, known to be alive, fast. Peers between
   * which nothing stands stay in the order in which they were found, which is random, so that load spreads.
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

  get #now(): number {
    return this.#clock.now()
  }

  #putAside(record: Known, why: PeerFailure): void {
    record.aliveUntil = 0
    if (record.asideUntil > this.#now) {
      // Transfers that break off together are one failure of one peer, not many in a row.
      if (why === 'silent') record.lastFailure = why
      return
    }
    const probation = Math.min(this.#probation * 2 ** record.failures, this.#longestProbation)
    record.failures++
    record.asideUntil = this.#now + probation
    record.lastFailure = why
  }

  /** Smaller is better, the first difference counts. */
  #place(peer: Peer, usual: Usual): readonly number[] {
    const record = this.#find(peer)
    const now = this.#now
    return [
      Number(this.isAside(peer)),
      Number((record?.busyUntil ?? 0) > now),
      Number(record?.proven !== true),
      // In powers of two: less than that is chance.
      Math.round(Math.log2(this.#costOf(record, usual))),
      Number((record?.aliveUntil ?? 0) <= now),
    ]
  }

  /** Milliseconds that a part of a layer would take. What is not known of a peer is taken to be as usual. */
  #costOf(record: Known | undefined, usual: Usual): number {
    const rate = record?.rate ?? usual.rate
    return Math.max((record?.headMs ?? usual.head) + (rate === undefined ? 0 : COMPARED_BYTES / rate), 1)
  }

  #revive(record: Known, peerId: string): void {
    record.member = peerId
    record.departed = undefined
    record.failures = 0
    record.asideUntil = 0
    record.lastFailure = undefined
    record.aliveUntil = this.#now + ALIVE_TIME
  }

  /**
   * What is known of its door. A member whose connection stands does not answer for the node that was in its place before:
   * it may have been seen before anybody knew where it is.
   */
  #find(peer: Peer): Known | undefined {
    const record = this.#records.get(addressOf(peer))
    if (record !== undefined && record.member !== peer.id && this.#connected.get(peer.id) === true) {
      this.#addresses.set(peer.id, addressOf(peer))
      this.#revive(record, peer.id)
    }
    return record
  }

  #of(peer: Peer): Known {
    const record = this.#find(peer) ?? {
      member: undefined,
      departed: undefined,
      failures: 0,
      asideUntil: 0,
      lastFailure: undefined,
      busyUntil: 0,
      aliveUntil: 0,
      proven: false,
      headMs: undefined,
      rate: undefined,
    }
    if (this.#connected.get(peer.id) === true) record.member = peer.id
    this.#records.set(addressOf(peer), record)
    this.#addresses.set(peer.id, addressOf(peer))
    return record
  }
}

function average(before: number | undefined, value: number): number {
  return before === undefined ? value : before + (value - before) * WEIGHT
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
