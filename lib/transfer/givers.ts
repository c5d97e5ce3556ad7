import { OVER } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Peer } from '../swarm/router.ts'

/** Bytes of the smallest piece, for a slow peer: a request costs as much processor time as some 100 KiB. */
const LEAST_PIECE = 64 * 1024
/**
 * Bytes of the largest piece if several peers send, because they wait for each other. All pieces but the first wait in the
 * buffers of their connections, and a peer whose buffers are smaller than its piece rests until its turn comes. Linux gives a
 * new connection 64 KiB, and some MiB once the buffer has been emptied in one go a few times (`tcp_moderate_rcvbuf`).
 */
const LARGEST_SHARED = 512 * 1024
/**
 * Bytes of the largest piece of an only peer. With larger pieces requests would cost hardly less, and a client that leaves
 * would cost more.
 */
const LARGEST_PIECE = 8 * 1024 * 1024
/** The factor by which an only peer is asked for more, because no other peer waits for it. */
const ALONE = 4
/** Milliseconds that a piece should take if several peers send, because the pieces of the others wait for it. */
const TURN = 100
/**
 * Bytes of the first piece of an only peer, whose rate is not known yet: little is lost if the peer is slow or the client
 * leaves.
 */
export const FIRST_PIECE = ALONE * LEAST_PIECE
/** Milliseconds that the client may wait for a piece before one of several peers is asked for less. */
const NOTICED = 25
/** Weight of the newest measurement of a rate. */
const WEIGHT = 0.3
/** A peer is slow if it sends less than this share of the fastest peer's rate: the client would wait only for it. */
const SLOW_PART = 1 / 4
/** The same share of the rate at which peers usually send. */
const UNUSUAL_PART = 1 / 8
/**
 * A peer below this rate, in bytes per millisecond, is slow whatever others send. At 16 kB/s a layer of 30 MB takes half an
 * hour, so it is worth asking others.
 */
const LEAST_RATE = 16
/** Milliseconds for which a peer that has failed gets no pieces while others do. */
const REST = 10_000
/**
 * The same for a peer that was late for the first time, as a busy node may be for a moment. Each further time is four times as
 * long, up to `REST`.
 */
const FIRST_REST = 1_000
/** Bytes after which a resting peer may be tried once more, because a long transfer may be in trouble several times. */
const PROGRESS = 1024 * 1024

/** One request to one peer for a piece. Its body is read only when it is wanted, and waits in the kernel until then. */
export class PieceRequest {
  readonly giver: Giver
  readonly askedAt: number
  /**
   * Bytes that have been taken, bytes that are still to be taken, and milliseconds for which the client has waited for them.
   */
  taken = 0
  left: number
  waited = 0
  readonly #stop = new AbortController()
  readonly #opened: Promise<ByteSource>
  #body: ByteSource | undefined

  /**
   * @param length in bytes
   * @param open asks for the body
   * @param refused called if there is no body
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

  /** Whether the head of the answer is there. */
  get isOpen(): boolean {
    return this.#body !== undefined
  }

  /** The next chunk, good until the next call; `undefined` if the body ended too early. */
  async next(): Promise<Uint8Array | undefined> {
    const chunk = await (this.#body ?? (await this.#opened)).next()
    return chunk?.subarray(0, this.left)
  }

  /**
   * Call this when bytes have been taken, after the client has waited `waited` milliseconds. After the last byte, cancel the
   * request as soon as nobody uses its bytes any more.
   */
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
  /** The requests for pieces that are under way. */
  readonly running = new Set<PieceRequest>()
  hasGiven = false
  /** Bytes per millisecond that the peer sends at least, on average; `undefined` before its first piece is complete. */
  rate: number | undefined
  /** Until when the peer gets no pieces while others do. */
  restsUntil = 0
  /** Whether the peer rests because it has said that it is busy. */
  isBusy = false
  /** Bytes of the peer's next piece if others send as well: no more than it can send in time. */
  #size = LEAST_PIECE
  /** The offset of the transfer when the peer was last tried although it rested. */
  #triedAt = Number.NEGATIVE_INFINITY
  /** How many times the peer was late. */
  #delays = 0

  constructor(peer: Peer) {
    this.peer = peer
  }

  /** Whether the peer was late and has sent no piece since. */
  get isOnTrial(): boolean {
    return this.#delays > 0 && this.rate === undefined
  }

  /** Call this if the peer has failed, is busy for `ms` milliseconds, or does not have the content. */
  rest(now: number, ms: number = REST, isBusy = false): void {
    this.restsUntil = now + ms
    this.isBusy = isBusy
  }

  /** Call this if the peer has kept the client waiting, perhaps only for a moment. Its measured rate no longer counts. */
  late(now: number): void {
    this.rest(now, Math.min(FIRST_REST * 4 ** this.#delays++, REST))
    this.rate = undefined
    this.#size = LEAST_PIECE
  }

  /** Ends the peer's rest for one more try; false if its last one was less than {@link PROGRESS} bytes before `place`. */
  retry(place: number): boolean {
    if (place < this.#triedAt + PROGRESS) return false
    this.#triedAt = place
    this.restsUntil = 0
    return true
  }

  /** Bytes of the peer's next piece. @param isShared whether others send as well */
  size(isShared: boolean): number {
    return isShared ? Math.min(this.#size, LARGEST_SHARED) : this.#size * ALONE
  }

  /** Whether the peer may be asked for one more piece, so that it never idles. */
  mayTake(isShared: boolean): boolean {
    const [first, second] = this.running
    if (first === undefined) return true
    return this.rate !== undefined && second === undefined && (isShared || first.left <= this.size(false) / 2)
  }

  /**
   * Call this when the peer has sent a piece.
   *
   * @param ms from the request to the last byte. It includes the time in which the piece waited to be read, so the rate is a
   *   lower bound.
   * @param waited milliseconds for which the client has waited for bytes of the piece
   * @param others bytes per millisecond of the fastest other peer that sends, if there are others
   */
  gave(bytes: number, ms: number, waited: number, others: number | undefined, now: number): void {
    const rate = bytes / Math.max(ms, 1)
    this.rate = this.rate === undefined ? rate : this.rate + (rate - this.rate) * WEIGHT
    // A piece that came in time shows only that the peer could send more.
    const isLate = others === undefined || waited > NOTICED
    const wanted = isLate ? rate * TURN : LARGEST_SHARED
    this.#size = Math.round(Math.max(Math.min(wanted, this.#size * 2, LARGEST_PIECE / ALONE), LEAST_PIECE))
    // One piece says little on a busy machine, so the average rate counts.
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

  /** The giver of that peer; a new one for a new peer. */
  of(peer: Peer): Giver {
    const giver = this.#all.get(addressOf(peer)) ?? new Giver(peer)
    this.#all.set(addressOf(peer), giver)
    return giver
  }

  /** The peers that may get pieces: the least occupied first, and among those the fastest. */
  ready(now: number): Giver[] {
    return [...this.#all.values()]
      .filter(({ restsUntil }) => restsUntil <= now)
      .sort((a, b) => a.running.size - b.running.size || (b.rate ?? 0) - (a.rate ?? 0))
  }

  /**
   * A peer that rests because it was late or has failed, and may be tried once more at `place`. Its rest ends with this call.
   */
  retry(place: number, now: number, may: (giver: Giver) => boolean): Giver | undefined {
    return this.#resting(now, false).find((giver) => may(giver) && giver.retry(place))
  }

  /** When the first busy peer may be asked again. */
  busyUntil(now: number): number | undefined {
    const busy = this.#resting(now, true).map(({ restsUntil }) => restsUntil)
    return busy.length === 0 ? undefined : Math.min(...busy)
  }

  /**
   * Bytes per millisecond below which a peer is slow.
   *
   * @param usual the usual rate of peers, which counts until a peer of this transfer has sent a piece
   */
  leastRate(usual: () => number | undefined): number {
    const fastest = fastestOf([...this.#all.values()])
    return Math.max(fastest === 0 ? (usual() ?? 0) * UNUSUAL_PART : fastest * SLOW_PART, LEAST_RATE)
  }

  /** Bytes per millisecond of the fastest other peer that may get pieces; `undefined` if there is none. */
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
