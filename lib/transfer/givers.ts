import { OVER } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Peer } from '../swarm/router.ts'

/** Bytes of the smallest piece, from a slow peer: a request costs as much processor time as some 100 KiB do. */
const LEAST_PIECE = 64 * 1024
/**
 * Bytes of the largest piece where several peers give, each of which waits for the others. All but the first wait in the buffers of
 * their connections: a peer whose buffers are smaller than its pieces rests until its turn comes. Linux gives a new one 64 KiB,
 * and some MiB once it has been emptied in one go a few times (`tcp_moderate_rcvbuf`).
 */
const LARGEST_SHARED = 512 * 1024
/** Bytes of the largest piece from the only peer: beyond it requests cost next to nothing, and leaving costs more. */
const LARGEST_PIECE = 8 * 1024 * 1024
/** How many times as much the only peer is asked for: nobody waits for it in vain. */
const ALONE = 4
/** How long a piece should take where several peers give, in milliseconds: what others give meanwhile waits for it. */
const TURN = 100
/** Bytes of the first piece from the only peer, whose rate is not known: little is lost if it is slow, or if the client leaves. */
export const FIRST_PIECE = ALONE * LEAST_PIECE
/** How long the client may wait for a piece, in milliseconds, before a peer beside others is asked for less. */
const NOTICED = 25
/** Weight of the newest measurement of a rate. */
const WEIGHT = 0.3
/** A peer is slow below this part of what the fastest of the transfer gives: the client would wait for it alone. */
const SLOW_PART = 1 / 4
/** The same of what peers usually give, at other times and to others. */
const UNUSUAL_PART = 1 / 8
/**
 * The same whatever others give, in bytes per millisecond: at 16 kB/s a layer of 30 MB takes half an hour, so that a peer that
 * gives less is worth a question to others.
 */
const LEAST_RATE = 16
/** For how long a peer that has failed gets no pieces while others do, in milliseconds. */
const REST = 10_000
/** The same for one that was late for the first time, as a busy node may be for a moment; then four times as long, at most as above. */
const FIRST_REST = 1_000
/** Bytes after which a peer that rests may be tried once more: a long transfer may be in trouble more often. */
const PROGRESS = 1024 * 1024

/** One request to one peer for a piece. Its body is read only as it is wanted: until then it waits in the kernel. */
export class PieceRequest {
  readonly giver: Giver
  readonly askedAt: number
  /** Bytes that have been taken, and that are still to be taken, and milliseconds for which the client has waited for them. */
  taken = 0
  left: number
  waited = 0
  readonly #stop = new AbortController()
  readonly #opened: Promise<ByteSource>
  #body: ByteSource | undefined

  /**
   * @param length in bytes
   * @param open asks for the body
   * @param refused told if there is none
   * @param now milliseconds of the owner's clock
   */
  constructor(
    giver: Giver,
    length: number,
    open: (signal: AbortSignal) => Promise<ByteSource>,
    refused: (error: unknown) => void,
    now: number,
  ) {
    this.giver = giver
    this.left = length
    this.askedAt = now
    giver.running.add(this)
    this.#opened = open(this.#stop.signal).then((body) => {
      this.#body = body
      if (this.#stop.signal.aborted) void body.cancel()
      return body
    })
    this.#opened.catch(refused)
  }

  /** Whether its head is there. */
  get isOpen(): boolean {
    return this.#body !== undefined
  }

  /** The next chunk, good until this is called again; `undefined` if there is none although there should be. */
  async next(): Promise<Uint8Array | undefined> {
    const chunk = await (this.#body ?? (await this.#opened)).next()
    return chunk?.subarray(0, this.left)
  }

  /** So many bytes have been taken, after such a wait. After the last one it is to be cancelled when they are not used any more. */
  took(bytes: number, waited: number): void {
    this.taken += bytes
    this.left -= bytes
    this.waited += waited
    this.giver.hasGiven = true
  }

  cancel(): void {
    this.giver.running.delete(this)
    this.#stop.abort(OVER)
    void this.#body?.cancel()
  }
}

/** One peer of a transfer. */
export class Giver {
  readonly peer: Peer
  /** Requests for pieces that are under way. */
  readonly running = new Set<PieceRequest>()
  hasGiven = false
  /** Bytes per millisecond that it gives at least, on average; `undefined` before its first piece is whole. */
  rate: number | undefined
  /** Until when it gets no pieces while others do. */
  restsUntil = 0
  /** Whether it rests because it has said so. */
  isBusy = false
  /** Bytes of its next piece where others give, too, with no more than it can give in time. */
  #size = LEAST_PIECE
  /** Where the transfer was when it was last tried although it rested. */
  #triedAt = Number.NEGATIVE_INFINITY
  /** How often it was late. */
  #delays = 0

  constructor(peer: Peer) {
    this.peer = peer
  }

  /** Whether it was late and has given no piece since. */
  get isOnTrial(): boolean {
    return this.#delays > 0 && this.rate === undefined
  }

  /** It has failed, or has too much to do for so many milliseconds, or has nothing to give at all. */
  rest(now: number, ms: number = REST, isBusy = false): void {
    this.restsUntil = now + ms
    this.isBusy = isBusy
  }

  /** It has kept the client waiting, for a moment perhaps: what was known of its rate does not count any more. */
  late(now: number): void {
    this.rest(now, Math.min(FIRST_REST * 4 ** this.#delays++, REST))
    this.rate = undefined
    this.#size = LEAST_PIECE
  }

  /** Ends its rest, for one more try; false if it has had one since the transfer was much further back than that place. */
  retry(place: number): boolean {
    if (place < this.#triedAt + PROGRESS) return false
    this.#triedAt = place
    this.restsUntil = 0
    return true
  }

  /** Bytes of its next piece. @param isShared whether others give, too */
  size(isShared: boolean): number {
    return isShared ? Math.min(this.#size, LARGEST_SHARED) : this.#size * ALONE
  }

  /** Whether it may be asked for one more piece, so that it is never without work. */
  mayTake(isShared: boolean): boolean {
    const [first, second] = this.running
    if (first === undefined) return true
    return this.rate !== undefined && second === undefined && (isShared || first.left <= this.size(false) / 2)
  }

  /**
   * It has given a piece.
   *
   * @param ms from the request to the last byte. It includes the time in which the piece waited to be read, so that the rate
   *   is the least that it can be.
   * @param waited milliseconds for which the client has waited for bytes of it
   * @param others bytes per millisecond of the fastest other peer that gives, if there are others
   */
  gave(bytes: number, ms: number, waited: number, others: number | undefined, now: number): void {
    const rate = bytes / Math.max(ms, 1)
    this.rate = this.rate === undefined ? rate : this.rate + (rate - this.rate) * WEIGHT
    // A piece that was there in time shows only that the peer could give more.
    const isLate = others === undefined || waited > NOTICED
    const wanted = isLate ? rate * TURN : LARGEST_SHARED
    this.#size = Math.round(Math.max(Math.min(wanted, this.#size * 2, LARGEST_PIECE / ALONE), LEAST_PIECE))
    // One piece says little on a busy machine: what it gives on average counts.
    if (isLate && this.rate < (others ?? 0) * SLOW_PART) this.late(now)
  }
}

/** The peers of one transfer. */
export class Givers {
  /** By address. */
  readonly #all = new Map<string, Giver>()

  has(peer: Peer): boolean {
    return this.#all.has(addressOf(peer))
  }

  /** The giver of that peer, which is made if there is none. */
  of(peer: Peer): Giver {
    const giver = this.#all.get(addressOf(peer)) ?? new Giver(peer)
    this.#all.set(addressOf(peer), giver)
    return giver
  }

  /** Those that may get pieces, the least occupied first, then the fastest. */
  ready(now: number): Giver[] {
    return [...this.#all.values()]
      .filter(({ restsUntil }) => restsUntil <= now)
      .sort((a, b) => a.running.size - b.running.size || (b.rate ?? 0) - (a.rate ?? 0))
  }

  /** One that rests because it was late or has failed, and may be tried once more at that place, which this does. */
  retry(place: number, now: number, may: (giver: Giver) => boolean): Giver | undefined {
    return this.#resting(now, false).find((giver) => may(giver) && giver.retry(place))
  }

  /** When the first one of those that are busy may be asked again. */
  busyUntil(now: number): number | undefined {
    const busy = this.#resting(now, true).map(({ restsUntil }) => restsUntil)
    return busy.length === 0 ? undefined : Math.min(...busy)
  }

  /**
   * Bytes per millisecond below which a peer is slow.
   *
   * @param usual what peers usually give, which counts until one of this transfer has given a piece
   */
  leastRate(usual: () => number | undefined): number {
    const fastest = fastestOf([...this.#all.values()])
    return Math.max(fastest === 0 ? (usual() ?? 0) * UNUSUAL_PART : fastest * SLOW_PART, LEAST_RATE)
  }

  /** Bytes per millisecond of the fastest that may get pieces beside this one; `undefined` if there are none. */
  beside(giver: Giver, now: number): number | undefined {
    const others = this.ready(now).filter((other) => other !== giver)
    return others.length === 0 ? undefined : fastestOf(others)
  }

  #resting(now: number, isBusy: boolean): Giver[] {
    return [...this.#all.values()].filter(
      (giver) => giver.restsUntil > now && giver.restsUntil < Number.POSITIVE_INFINITY && giver.isBusy === isBusy,
    )
  }
}

function fastestOf(givers: readonly Giver[]): number {
  return Math.max(0, ...givers.map(({ rate }) => rate ?? 0))
}
