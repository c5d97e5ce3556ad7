import { PeerError } from '../peers/error.ts'
import type { KnownPeers } from '../peers/known-peers.ts'
import { OVER, until } from '../platform/abort.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Clock } from '../platform/clock.ts'
import type { Peer } from '../swarm/router.ts'
import { FIRST_PIECE, type Giver, Givers, PieceRequest } from './givers.ts'
import { createLateness, LATE } from './lateness.ts'
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
  /** How many bytes may be asked for ahead of the client now: a share of some memory, which need not be an integer. */
  readonly ahead: () => number
  readonly clock: Clock
}

/** Called when something happens. */
export interface PiecesTold {
  /** Bytes of a peer have come. */
  gave(peer: Peer, bytes: number): void
  /** A peer's body broke off at that offset, or never began. */
  broke(peer: Peer, error: PeerError, offset: number, hasGiven: boolean): void
  /** A peer keeps the client waiting. */
  slow(peer: Peer, offset: number): void
  /** A peer continues at that offset what another one has begun. */
  resumed(peer: Peer, offset: number): void
}

export interface PiecesOptions {
  /** Milliseconds for which a peer may be silent if no other one can take its place. */
  readonly stallTimeout: number
  /** Milliseconds after which no other peer is asked for a byte that the client waits for. */
  readonly longestWait: number
}

/**
 * Milliseconds for which a peer may be silent while it sends bytes for other requests of this node. These make it slow; after
 * this time, it must have forgotten this request.
 */
const LONGEST_STALL = 30_000
/** How many peers send pieces of one content at the same time: the uplinks of four nodes fill the downlink of one. */
const PEERS = 4
/** If fewer bytes than this may be asked for ahead, none are: the link is busy with bytes that clients wait for. */
const LEAST_AHEAD = 2 * FIRST_PIECE
/**
 * Bytes that must be left for another peer to be worth it: a search, a connection, and smaller pieces, so more requests. A link of
 * 100 Mbit/s carries as much in a third of a second.
 */
const WORTHWHILE = 4 * 1024 * 1024
/** Bytes per millisecond that nearly fill a link of 1 Gbit/s: more peers would only cost processor time. */
const ENOUGH = 80_000
/** The least milliseconds over which that is measured, because the first pieces are small and round trips make them slow. */
const MEASURED = 50
/** Milliseconds until the next search for peers after one that found none, at first and at most; doubled each time. */
const FIRST_LOOK = 1_000
const LONGEST_LOOK = 60_000

/**
 * The bytes of a span in order, from several peers. They come as a line of pieces: the first is read as it comes, and the
 * others wait in the buffers of their connections. A peer is asked for another piece when it has sent most of its last one, so
 * faster peers send more. If a peer does not send its piece in time, or at all, another one does. If no peer is left, the bytes
 * end with an error at exactly that offset.
 */
export class Pieces implements ByteSource {
  readonly #dependencies: PiecesDependencies
  readonly #options: PiecesOptions
  readonly #span: Span
  readonly #givers = new Givers()
  readonly #lateness: ReturnType<typeof createLateness>
  readonly #line: Line
  readonly #stop = new AbortController()
  #offset: number
  /** A finished request whose last bytes, and with them its connection, are still in use. */
  #spent: PieceRequest | undefined
  #failure: PeerError | undefined
  /** The state when the number of needed peers was last computed, and the milliseconds that the client has waited since. */
  #measured: { readonly at: number; readonly offset: number }
  #waited = 0
  #isLooking = false
  #nextLook = 0
  #lookDelay = FIRST_LOOK

  /** @param first a peer that has begun to send the span; if missing, one is looked for */
  constructor(dependencies: PiecesDependencies, options: PiecesOptions, span: Span, first?: BegunSpan) {
    this.#dependencies = dependencies
    this.#options = options
    this.#span = span
    this.#offset = span.start
    this.#measured = { at: this.#now, offset: span.start }
    this.#line = new Line(span)
    this.#lateness = createLateness({
      clock: dependencies.clock,
      leastRate: () => this.#givers.leastRate(() => dependencies.known.pace.usual.rate),
      onLate: () => this.#late(),
    })
    if (first === undefined) return
    const { peer, body, end } = first
    this.#give(this.#line.push(end), this.#givers.of(peer), async () => body)
  }

  /** Whether a peer sends, or has sent, some of the bytes. */
  uses(peer: Peer): boolean {
    return this.#givers.has(peer)
  }

  /** @throws {PeerError} if no peer is left for the next byte */
  async next(): Promise<Uint8Array | undefined> {
    const since = this.#now
    this.#release()
    try {
      while (this.#offset < this.#span.end) {
        this.#throwIfStopped()
        this.#lateness.begin(since)
        this.#fill()
        const piece = this.#line.first ?? this.#append(FIRST_PIECE)
        // A peer that was late is tried again if that costs nothing.
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

  /** The next chunk of the first piece; `undefined` if the peer does not send it. */
  async #read(piece: Piece, request: PieceRequest): Promise<Uint8Array | undefined> {
    try {
      const chunk = await request.next()
      this.#throwIfStopped()
      if (piece.request !== request) return undefined
      if (chunk === undefined) throw new PeerError(`the body ended ${request.left} bytes early`)
      // Without another `await`, during which another peer could take its place.
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

  /** Call this when the first piece is complete. */
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
   * How many more peers would fill the client's link, judging by the bytes since the last call; 0 if these were too few, or if
   * the client itself is slow.
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

  /** Looks for `count` more peers, unless a search is under way, or the last one found none a moment ago. */
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
      if (this.#lateness.isLate()) this.#late()
      this.#fill()
    }
    this.#isLooking = false
  }

  /** Asks the peers for as many pieces as they should be asked for now: always the least occupied peer first. */
  #fill(): void {
    const asked = (giver: Giver, _: number, { length }: readonly Giver[]) => {
      const piece = giver.mayTake(length > 1) ? this.#pieceFor(giver, length > 1) : undefined
      return piece !== undefined && this.#request(piece, giver)
    }
    while (this.#givers.ready(this.#now).some(asked));
  }

  /** The next piece for a peer; `undefined` if there is none, or no room for another one. */
  #pieceFor(giver: Giver, isShared: boolean): Piece | undefined {
    const { first, open, left } = this.#line
    if (open !== undefined) return open
    const hasRoom = left > 0 && (first === undefined || this.#ahead > 0)
    return hasRoom ? this.#append(giver.size(isShared)) : undefined
  }

  /** How many more bytes may be asked for ahead. */
  get #ahead(): number {
    const room = Math.floor(this.#dependencies.ahead()) - this.#line.ahead
    return room < LEAST_AHEAD ? 0 : room
  }

  /** Appends a piece to the line. The first piece has `size` bytes; later ones only as many as there is room for. */
  #append(size: number): Piece {
    return this.#line.append(this.#line.first === undefined ? size : Math.min(size, this.#ahead))
  }

  /** Asks a peer for as much of a piece as it may be asked for at once. The rest becomes another piece. */
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
   * Finds a peer for the piece that the client waits for, with all means.
   *
   * @throws {PeerError} if there is no peer
   */
  async #assign(piece: Piece): Promise<PieceRequest | undefined> {
    const [ready] = this.#givers.ready(this.#now)
    if (ready !== undefined) return this.#request(piece, ready)
    if (this.#lateness.waiting() < this.#options.longestWait) {
      const peer = await this.#dependencies.candidate()
      this.#throwIfStopped()
      // A peer that was found meanwhile may already have been asked for it.
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

  /** A peer that was late or has failed. It is the best one left, because nobody takes its place. */
  #retry(besides?: Giver): Giver | undefined {
    const { known } = this.#dependencies
    const may = (one: Giver) => one !== besides && (!known.isAside(one.peer) || known.isCheapToTry(one.peer))
    return this.#givers.retry(this.#offset, this.#now, may)
  }

  /** Call this if a peer does not send its piece. */
  #lose(piece: Piece, request: PieceRequest, error: unknown, isTold = !request.isOpen): void {
    if (!isOfPeer(error)) throw error
    if (piece.request !== request) return
    const { giver, isOpen } = request
    takeAway(piece)
    if (error instanceof PieceRefusal) {
      giver.rest(this.#now, error.retryAfterMs ?? Number.POSITIVE_INFINITY, error.retryAfterMs !== undefined)
    } else {
      giver.rest(this.#now)
      // A mirror that stops takes no new requests, but finishes the running ones.
      if (isOpen) this.#line.release(giver)
      this.#failure = error
      // The search has already reported a request that got no head.
      if (!isTold) this.#dependencies.told.broke(giver.peer, error, piece.at, giver.hasGiven)
    }
    this.#fill()
  }

  /**
   * Call this if the client has waited too long for a peer. Another peer sends the rest of the piece, as much as it may be
   * asked for at once.
   */
  #late(): void {
    const piece = this.#line.first
    if (piece?.request === undefined) return
    const { known, told } = this.#dependencies
    const { stallTimeout, longestWait } = this.#options
    const silence = this.#lateness.silence()
    const { giver } = piece.request
    const ready = this.#givers.ready(this.#now).find((one) => one !== giver)
    const other = this.#lateness.waiting() >= longestWait ? undefined : (ready ?? this.#retry(giver))
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
    // The peer may have been asked while it still sent its last piece.
    const givesOthers = known.of(giver.peer).gaveAt > this.#now - silence
    if (silence < stallTimeout || (givesOthers && silence < LONGEST_STALL)) void this.#look()
    else this.#lose(piece, piece.request, silentFor(stallTimeout), false)
  }
}
