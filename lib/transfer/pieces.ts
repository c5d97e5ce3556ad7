import { PeerError } from '../peers/error.ts'
import type { KnownPeers } from '../peers/known-peers.ts'
import { OVER, until } from '../platform/abort.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Clock } from '../platform/clock.ts'
import type { Peer } from '../swarm/router.ts'
import { FIRST_PIECE, type Giver, Givers, PieceRequest } from './givers.ts'
import { LATE, Lateness } from './lateness.ts'
import { type BegunSpan, isOfPeer, Line, type Piece, PieceRefusal, type Span, silentFor, takeAway } from './line.ts'

export interface PiecesDependencies {
  /**
   * Asks a peer for a span.
   *
   * @throws {PieceRefusal}
   * @throws {PeerError}
   */
  readonly ask: (peer: Peer, span: Span, signal: AbortSignal) => Promise<ByteSource>
  /** A peer that is not in use and may have the content; `undefined` if there is none. */
  readonly candidate: () => Promise<Peer | undefined>
  readonly told: PiecesTold
  readonly known: KnownPeers
  /** Bytes that may be asked for ahead of what the client waits for, now: a share of some memory, which need not be whole. */
  readonly ahead: () => number
  readonly clock: Clock
}

/** Hears of what happens. */
export interface PiecesTold {
  /** So many bytes of a peer have come. */
  gave(peer: Peer, bytes: number): void
  /** A peer's body broke off at that place, or never began. */
  broke(peer: Peer, error: PeerError, offset: number, hasGiven: boolean): void
  /** A peer keeps the client waiting. */
  slow(peer: Peer, offset: number): void
  /** A peer goes on at that place with what another one has begun. */
  resumed(peer: Peer, offset: number): void
}

export interface PiecesOptions {
  /** Milliseconds for which a peer may be silent if no other one can take its place. */
  readonly stallTimeout: number
  /** Milliseconds for which a client waits for a byte before no other peer is asked for it. */
  readonly longestWait: number
}

/**
 * Longest that a peer may be silent while it gives bytes to other requests of this node, in milliseconds. It is that slow
 * because of them; beyond it, this request is forgotten.
 */
const LONGEST_STALL = 30_000
/** How many peers give pieces of one content at the same time: the uplinks of four nodes fill the downlink of one. */
const PEERS = 4
/** Bytes that may be asked for ahead, below which nothing is: the link is full of what clients wait for. */
const LEAST_AHEAD = 2 * FIRST_PIECE
/** Bytes that must be left for one more peer to be worth its connections. */
const WORTHWHILE = 1024 * 1024
/** Bytes per millisecond that nearly fill a link of 1 Gbit/s: more peers would only cost processor time. */
const ENOUGH = 80_000
/** Milliseconds over which that is measured at least: the first pieces are small, and round trips make them slow. */
const MEASURED = 50
/** Milliseconds until peers are looked for again where there were none, at first and at most; doubled each time. */
const FIRST_LOOK = 1_000
const LONGEST_LOOK = 60_000

/**
 * The bytes of a span in order, from several peers: a line of pieces, of which the first is read as it comes, and the others
 * wait in the buffers of their connections. A peer gets another piece when it is through with most of its last one, so that
 * faster ones give more. What a peer does not give in time, or not at all, another one does. When no peer is left, the bytes end
 * with an error at exactly that place.
 */
export class Pieces implements ByteSource {
  readonly #dependencies: PiecesDependencies
  readonly #options: PiecesOptions
  readonly #span: Span
  readonly #givers = new Givers()
  readonly #lateness: Lateness
  readonly #line: Line
  readonly #stop = new AbortController()
  #offset: number
  /** Its last bytes are still used, and with them its connection. */
  #spent: PieceRequest | undefined
  #failure: PeerError | undefined
  /** What had come when it was last asked how many more peers are needed, and for how long the client has waited since. */
  #measured: { readonly at: number; readonly offset: number }
  #waited = 0
  #isLooking = false
  #nextLook = 0
  #lookDelay = FIRST_LOOK

  /** @param first gives the bytes from the span's start on; without it, somebody is looked for */
  constructor(dependencies: PiecesDependencies, options: PiecesOptions, span: Span, first?: BegunSpan) {
    this.#dependencies = dependencies
    this.#options = options
    this.#span = span
    this.#offset = span.start
    this.#measured = { at: this.#now, offset: span.start }
    this.#line = new Line(span)
    this.#lateness = new Lateness({
      clock: dependencies.clock,
      leastRate: () => this.#givers.leastRate(() => dependencies.known.pace.usual.rate),
      onLate: () => this.#late(),
    })
    if (first === undefined) return
    const { peer, body, end } = first
    this.#give(this.#line.push(end), this.#givers.of(peer), async () => body)
  }

  /** Whether a peer is, or was, one of those that the bytes come from. */
  uses(peer: Peer): boolean {
    return this.#givers.has(peer)
  }

  /** @throws {PeerError} when no peer is left for the next byte */
  async next(): Promise<Uint8Array | undefined> {
    const since = this.#now
    this.#release()
    try {
      while (this.#offset < this.#span.end) {
        this.#throwIfStopped()
        this.#lateness.begin(since)
        this.#fill()
        const piece = this.#line.first ?? this.#append(FIRST_PIECE)
        // Whoever was late is tried again where that costs nothing.
        if (piece.request?.giver.isOnTrial === true && !piece.request.isOpen) this.#late()
        const request = piece.request ?? (await this.#assign(piece))
        const chunk = request && (await this.#read(piece, request))
        if (chunk !== undefined) return chunk
      }
      return undefined
    } catch (error) {
      await this.cancel()
      throw error
    }
  }

  async cancel(): Promise<void> {
    this.#stop.abort(OVER)
    this.#lateness.close()
    this.#release()
    this.#line.clear()
  }

  #release(): void {
    this.#spent?.cancel()
    this.#spent = undefined
  }

  get #now(): number {
    return this.#dependencies.clock.now()
  }

  #throwIfStopped(): void {
    if (this.#stop.signal.aborted) throw new PeerError('cancelled')
  }

  /** The next chunk of the first piece; `undefined` if the peer that was asked for it does not give it. */
  async #read(piece: Piece, request: PieceRequest): Promise<Uint8Array | undefined> {
    try {
      const chunk = await request.next()
      this.#throwIfStopped()
      if (piece.request !== request) return undefined
      if (chunk === undefined) throw new PeerError(`the body ended ${request.left} bytes early`)
      // Without another wait, or another peer could take its place in between.
      const waited = this.#lateness.came(chunk.length)
      this.#waited += waited
      request.took(chunk.length, waited)
      this.#dependencies.told.gave(request.giver.peer, chunk.length)
      piece.at += chunk.length
      this.#offset += chunk.length
      if (request.left === 0) this.#finish(request)
      return chunk
    } catch (error) {
      this.#throwIfStopped()
      this.#lose(piece, request, error)
      return undefined
    }
  }

  /** The first piece is whole. */
  #finish(request: PieceRequest): void {
    const { giver, taken, askedAt, waited } = request
    this.#spent = request
    this.#line.shift()
    const now = this.#now
    giver.gave(taken, now - askedAt, waited, this.#givers.beside(giver, now), now)
    this.#dependencies.known.of(giver.peer).moved(taken, now - askedAt)
    this.#lateness.turn()
    if (this.#offset === this.#span.end) this.#lateness.close()
    else if (this.#line.left >= WORTHWHILE && this.#ahead > 0) void this.#look(this.#needed())
  }

  /**
   * How many more peers would fill the client's link, by what came since the last answer; none if that was too little to say, or if
   * the client is the one that is slow.
   */
  #needed(): number {
    const { at, offset } = this.#measured
    const ms = this.#now - at
    if (ms < MEASURED) return 0
    const [rate, waited] = [(this.#offset - offset) / ms, this.#waited]
    this.#measured = { at: this.#now, offset: this.#offset }
    this.#waited = 0
    const giving = this.#givers.ready(this.#now).length
    return waited < ms / 2 ? 0 : Math.min(Math.ceil((giving * ENOUGH) / rate), PEERS) - giving
  }

  /** Looks for so many more peers, unless that is under way, or there was none a moment ago. */
  async #look(count = 1): Promise<void> {
    if (this.#isLooking || this.#now < this.#nextLook) return
    this.#isLooking = true
    for (let left = count; left > 0; left--) {
      const peer = await this.#dependencies.candidate()
      if (this.#stop.signal.aborted) return
      if (peer === undefined) {
        this.#nextLook = this.#now + this.#lookDelay
        this.#lookDelay = Math.min(this.#lookDelay * 2, LONGEST_LOOK)
        break
      }
      this.#givers.of(peer)
      if (this.#lateness.isLate) this.#late()
      this.#fill()
    }
    this.#isLooking = false
  }

  /** Asks those that give for as much as they should be asked for now: the least occupied first, after each piece anew. */
  #fill(): void {
    const asked = (giver: Giver, _: number, { length }: readonly Giver[]) => {
      const piece = giver.mayTake(length > 1) ? this.#pieceFor(giver, length > 1) : undefined
      return piece !== undefined && this.#request(piece, giver)
    }
    while (this.#givers.ready(this.#now).some(asked));
  }

  /** The next piece for a peer; `undefined` if there is none, or no room for one. */
  #pieceFor(giver: Giver, isShared: boolean): Piece | undefined {
    const { first, open, left } = this.#line
    if (open !== undefined) return open
    const hasRoom = left > 0 && (first === undefined || this.#ahead > 0)
    return hasRoom ? this.#append(giver.size(isShared)) : undefined
  }

  /** Bytes that may be asked for ahead, besides those that are. */
  get #ahead(): number {
    const room = Math.floor(this.#dependencies.ahead()) - this.#line.ahead
    return room < LEAST_AHEAD ? 0 : room
  }

  /** Puts a piece at the end of the line: so large, if it is the first, and otherwise if there is room for it. */
  #append(size: number): Piece {
    return this.#line.append(this.#line.first === undefined ? size : Math.min(size, this.#ahead))
  }

  /** Asks a peer for as much of a piece as it may be asked for at a time; the rest is another piece. */
  #request(piece: Piece, giver: Giver): PieceRequest {
    this.#line.split(piece, giver.size(this.#givers.ready(this.#now).length > 1))
    const span = { start: piece.at, end: piece.end }
    return this.#give(piece, giver, (signal) => this.#dependencies.ask(giver.peer, span, signal))
  }

  #give(piece: Piece, giver: Giver, open: (signal: AbortSignal) => Promise<ByteSource>): PieceRequest {
    if (piece.at > piece.start) this.#dependencies.told.resumed(giver.peer, piece.at)
    const refused = (error: unknown) => {
      if (!this.#stop.signal.aborted && isOfPeer(error)) this.#lose(piece, request, error)
    }
    const request = new PieceRequest(giver, piece.end - piece.at, open, refused, this.#now)
    piece.request = request
    return request
  }

  /**
   * Finds a peer for the piece that the client waits for, whatever it takes.
   *
   * @throws {PeerError} if there is none
   */
  async #assign(piece: Piece): Promise<PieceRequest | undefined> {
    const [ready] = this.#givers.ready(this.#now)
    if (ready !== undefined) return this.#request(piece, ready)
    if (this.#lateness.waiting < this.#options.longestWait) {
      const peer = await this.#dependencies.candidate()
      this.#throwIfStopped()
      // A peer that was found meanwhile may have been asked for it.
      if (piece.request !== undefined) return piece.request
      const next = peer === undefined ? this.#retry() : this.#givers.of(peer)
      if (next !== undefined) return this.#request(piece, next)
      const freeAt = this.#givers.busyUntil(this.#now)
      if (freeAt !== undefined) {
        await until(this.#dependencies.clock, freeAt, this.#stop.signal)
        return undefined
      }
    }
    throw new PeerError(`no peer left for the bytes from ${this.#offset} on`, { cause: this.#failure })
  }

  /** A peer that was late, or has failed, and is the best that there is, now that nobody takes its place. */
  #retry(besides?: Giver): Giver | undefined {
    const { known } = this.#dependencies
    const may = (one: Giver) => one !== besides && (!known.isAside(one.peer) || known.isCheapToTry(one.peer))
    return this.#givers.retry(this.#offset, this.#now, may)
  }

  /** A peer does not give what it was asked for. */
  #lose(piece: Piece, request: PieceRequest, error: unknown, isTold = !request.isOpen): void {
    if (!isOfPeer(error)) throw error
    if (piece.request !== request) return
    const { giver, isOpen } = request
    takeAway(piece)
    if (error instanceof PieceRefusal) {
      giver.rest(this.#now, error.retryAfterMs ?? Number.POSITIVE_INFINITY, error.retryAfterMs !== undefined)
    } else {
      giver.rest(this.#now)
      // A mirror that is told to stop takes no more requests, and finishes what it gives.
      if (isOpen) this.#line.release(giver)
      this.#failure = error
      // Of a request that got no head, the search has told.
      if (!isTold) this.#dependencies.told.broke(giver.peer, error, piece.at, giver.hasGiven)
    }
    this.#fill()
  }

  /** The client waits for a peer for too long: another one gives the rest of the piece, as far as it would be asked at a time. */
  #late(): void {
    const piece = this.#line.first
    if (piece?.request === undefined) return
    const { known, told } = this.#dependencies
    const { stallTimeout, longestWait } = this.#options
    const { silence, waiting } = this.#lateness
    const { giver } = piece.request
    const ready = this.#givers.ready(this.#now).find((one) => one !== giver)
    const other = waiting >= longestWait ? undefined : (ready ?? this.#retry(giver))
    if (other !== undefined) {
      if (silence < LATE) told.slow(giver.peer, piece.at)
      else told.broke(giver.peer, silentFor(LATE), piece.at, giver.hasGiven)
      giver.late(this.#now)
      this.#line.release(giver)
      this.#request(piece, other)
      this.#lateness.turn()
      this.#fill()
      return
    }
    // It may have been asked while it still gave the piece before.
    const givesOthers = known.of(giver.peer).gaveAt > this.#now - silence
    if (silence < stallTimeout || (givesOthers && silence < LONGEST_STALL)) void this.#look()
    else this.#lose(piece, piece.request, silentFor(stallTimeout), false)
  }
}
