import { PeerError } from '../peers/error.ts'
import { OVER, until } from '../platform/abort.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Peer } from '../swarm/router.ts'
import { FIRST_PIECE, type Giver, Givers, PieceRequest } from './givers.ts'
import { createLateness, LATE } from './lateness.ts'
import { type BegunSpan, type Piece, PieceRefusal, type Span, silentFor, takeAway } from './piece.ts'
import type { Transfer, TransferDependencies } from './transfer.ts'

export interface PiecesDependencies extends Pick<TransferDependencies, 'known' | 'ahead' | 'clock'> {
  /**
   * Asks a peer for a span.
   *
   * @throws {PeerError} which may be a {@link PieceRefusal}
   */
  readonly ask: (peer: Peer, span: Span, signal: AbortSignal) => Promise<ByteSource>
  /** A peer that is not in use and may have the content; `undefined` if there is none. */
  readonly candidate: () => Promise<Peer | undefined>
  /** Called when something happens. */
  readonly told: Pick<Transfer, 'gave' | 'broke' | 'slow' | 'resumed'>
}

/**
 * Milliseconds for which a peer may be silent while it sends bytes for other requests of this node. These make it slow; after
 * this time, it must have forgotten this request.
 */
const LONGEST_STALL = 30_000
/** The factor by which a piece may be too long, so that no small rest is left. */
const LONGER = 1.25
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

/** A span in pieces. */
export type Pieces = ReturnType<typeof createPieces>

/**
 * The bytes of a span in order, from several peers. They come as a line of pieces: the first is read as it comes, and the
 * others wait in the buffers of their connections. A peer is asked for another piece when it has sent most of its last one, so
 * faster peers send more. If a peer does not send its piece in time, or at all, another one does. If no peer is left, the bytes
 * end with an error at exactly that offset.
 *
 * @param first the peer to ask first, or a peer that has begun to send the span; if missing, one is looked for
 */
export function createPieces(
  { ask, candidate, told, known, ahead, clock }: PiecesDependencies,
  { stallTimeout, longestWait }: Transfer['options'],
  span: Span,
  first?: BegunSpan | Peer,
) {
  const givers = new Givers()
  /** The pieces that are under way, in order. The client wants bytes of the first one. */
  const line: Piece[] = []
  /** The end of the last piece. */
  let frontier = span.start
  const stop = new AbortController()
  const leastRate = () => givers.leastRate(() => known.pace.usual.rate)
  const lateness = createLateness({ clock, leastRate, onLate: replaceLate })
  let offset = span.start
  /** A finished request whose last bytes, and with them its connection, are still in use. */
  let spent: PieceRequest | undefined
  let failure: PeerError | undefined
  /** The state when the number of needed peers was last computed, and the milliseconds that the client has waited since. */
  let measured = { at: clock.now(), offset }
  let waitedSince = 0
  let isLooking = false
  let nextLook = 0
  let lookDelay = FIRST_LOOK
  if (first !== undefined && 'body' in first) give(append(first.end), givers.of(first.peer), async () => first.body)
  else if (first !== undefined) givers.of(first)

  function endSpent(): void {
    spent?.cancel()
    spent = undefined
  }

  function throwIfStopped(): void {
    if (stop.signal.aborted) throw new PeerError('cancelled')
  }

  /** The next chunk of the first piece; `undefined` if the peer does not send it. */
  async function read(piece: Piece, request: PieceRequest): Promise<Uint8Array | undefined> {
    try {
      const chunk = await request.next()
      throwIfStopped()
      if (piece.request !== request) return undefined
      if (chunk === undefined) throw new PeerError(`the body ended ${request.left} bytes early`)
      // Without another `await`, during which another peer could take its place.
      const waited = lateness.came(chunk.length)
      waitedSince += waited
      request.took(chunk.length, waited)
      told.gave(request.giver.peer, chunk.length)
      piece.at += chunk.length
      offset += chunk.length
      if (request.left === 0) finish(request)
      return chunk
    } catch (error) {
      throwIfStopped()
      lose(piece, request, error)
      return undefined
    }
  }

  /** Call this when the first piece is complete. */
  function finish(request: PieceRequest): void {
    const { giver, taken, askedAt, waited } = request
    spent = request
    line.shift()
    const now = clock.now()
    giver.gave(taken, now - askedAt, waited, givers.beside(giver, now), now)
    known.of(giver.peer).moved(taken, now - askedAt)
    lateness.turn()
    if (offset === span.end) lateness.close()
    else if (span.end - frontier >= WORTHWHILE && room() > 0) void look(needed())
  }

  /**
   * How many more peers would fill the client's link, judging by the bytes since the last call; 0 if these were too few, or if
   * the client itself is slow.
   */
  function needed(): number {
    const now = clock.now()
    const ms = now - measured.at
    if (ms < MEASURED) return 0
    const [rate, waited] = [(offset - measured.offset) / ms, waitedSince]
    measured = { at: now, offset }
    waitedSince = 0
    const giving = givers.ready(now).length
    return waited < ms / 2 ? 0 : Math.min(Math.ceil((giving * ENOUGH) / rate), PEERS) - giving
  }

  /** Looks for `count` more peers, unless a search is under way, or the last one found none a moment ago. */
  async function look(count = 1): Promise<void> {
    if (isLooking || clock.now() < nextLook) return
    isLooking = true
    for (let left = count; left > 0; left--) {
      const peer = await candidate()
      if (stop.signal.aborted) return
      if (peer === undefined) {
        nextLook = clock.now() + lookDelay
        lookDelay = Math.min(lookDelay * 2, LONGEST_LOOK)
        break
      }
      givers.of(peer)
      if (lateness.isLate()) replaceLate()
      fill()
    }
    isLooking = false
  }

  /** Asks the peers for as many pieces as they should be asked for now: always the least occupied peer first. */
  function fill(): void {
    const asked = (giver: Giver, _: number, { length }: readonly Giver[]) => {
      const piece = giver.mayTake(length > 1) ? pieceFor(giver, length > 1) : undefined
      return piece !== undefined && askFor(piece, giver)
    }
    while (givers.ready(clock.now()).some(asked));
  }

  /** The next piece for a peer; `undefined` if there is none, or no room for another one. */
  function pieceFor(giver: Giver, isShared: boolean): Piece | undefined {
    const open = line.find((piece) => piece.request === undefined)
    const hasRoom = frontier < span.end && (line.length === 0 || room() > 0)
    return open ?? (hasRoom ? nextPiece(giver.size(isShared)) : undefined)
  }

  /** How many more bytes may be asked for ahead. */
  function room(): number {
    const bytes = Math.floor(ahead()) - (frontier - (line[0]?.end ?? frontier))
    return bytes < LEAST_AHEAD ? 0 : bytes
  }

  /**
   * Appends a piece to the line. The first piece has about `size` bytes; later ones only as many as there is room for. If the rest
   * would be too small for another piece, it becomes part of this one.
   */
  function nextPiece(size: number): Piece {
    const bytes = line.length === 0 ? size : Math.min(size, room())
    return append(span.end - frontier < bytes * LONGER ? span.end : frontier + bytes)
  }

  /** Appends a piece up to that offset. */
  function append(end: number): Piece {
    const piece = { start: frontier, at: frontier, end }
    line.push(piece)
    frontier = end
    return piece
  }

  /** Takes all pieces away from a peer. */
  function release(giver: Giver): void {
    for (const piece of line) if (piece.request?.giver === giver) takeAway(piece)
  }

  /** Asks a peer for as much of a piece as it may be asked for at once. The rest becomes another piece. */
  function askFor(piece: Piece, giver: Giver): PieceRequest {
    const size = giver.size(givers.ready(clock.now()).length > 1)
    if (piece.end - piece.at >= size * LONGER) {
      const end = piece.at + size
      line.splice(line.indexOf(piece) + 1, 0, { start: end, at: end, end: piece.end })
      piece.end = end
    }
    const wanted = { start: piece.at, end: piece.end }
    return give(piece, giver, (signal) => ask(giver.peer, wanted, signal))
  }

  function give(piece: Piece, giver: Giver, open: (signal: AbortSignal) => Promise<ByteSource>): PieceRequest {
    if (piece.at > piece.start) told.resumed(giver.peer, piece.at)
    const refused = (error: unknown) => {
      if (!stop.signal.aborted && error instanceof PeerError) lose(piece, given, error)
    }
    const given = new PieceRequest(giver, piece.end - piece.at, open, refused, clock.now())
    piece.request = given
    return given
  }

  /**
   * Finds a peer for the piece that the client waits for, with all means.
   *
   * @throws {PeerError} if there is no peer
   */
  async function assign(piece: Piece): Promise<PieceRequest | undefined> {
    const [ready] = givers.ready(clock.now())
    if (ready !== undefined) return askFor(piece, ready)
    if (lateness.waiting() < longestWait) {
      const peer = await candidate()
      throwIfStopped()
      // A peer that was found meanwhile may already have been asked for it.
      if (piece.request !== undefined) return piece.request
      const next = peer === undefined ? retry() : givers.of(peer)
      if (next !== undefined) return askFor(piece, next)
      const freeAt = givers.busyUntil(clock.now())
      if (freeAt !== undefined) {
        const latest = clock.now() + longestWait - lateness.waiting()
        await until(clock, Math.min(freeAt, latest), stop.signal)
        return undefined
      }
    }
    throw new PeerError(`no peer left for the bytes from ${offset} on`, { cause: failure })
  }

  /** Another peer that may get pieces now. */
  function besides(giver: Giver): Giver | undefined {
    return givers.ready(clock.now()).find((one) => one !== giver)
  }

  /** A peer that was late or has failed. It is the best one left, because nobody takes its place. */
  function retry(late?: Giver): Giver | undefined {
    const may = (one: Giver) => one !== late && (!known.isAside(one.peer) || known.isCheapToTry(one.peer))
    return givers.retry(offset, clock.now(), may)
  }

  /** Call this if a peer does not send its piece. */
  function lose(piece: Piece, lost: PieceRequest, error: unknown, isTold = !lost.isOpen): void {
    if (!(error instanceof PeerError)) throw error
    if (piece.request !== lost) return
    const { giver, isOpen } = lost
    takeAway(piece)
    if (error instanceof PieceRefusal) {
      giver.rest(clock.now(), error.retryAfterMs ?? Number.POSITIVE_INFINITY, error.retryAfterMs !== undefined)
    } else {
      giver.rest(clock.now())
      // A mirror that stops takes no new requests, but finishes the running ones.
      if (isOpen) release(giver)
      failure = error
      // The search has already reported a request that got no head.
      if (!isTold) told.broke(giver.peer, error, piece.at, giver.hasGiven)
    }
    fill()
  }

  /**
   * Call this if the client has waited too long for a peer. Another peer sends the rest of the piece, as much as it may be
   * asked for at once.
   */
  function replaceLate(): void {
    const [piece] = line
    if (piece?.request === undefined) return
    const silence = lateness.silence()
    const { giver } = piece.request
    const other = lateness.waiting() >= longestWait ? undefined : (besides(giver) ?? retry(giver))
    if (other !== undefined) {
      if (silence < LATE) told.slow(giver.peer, piece.at)
      else told.broke(giver.peer, silentFor(LATE), piece.at, giver.hasGiven)
      giver.late(clock.now())
      release(giver)
      askFor(piece, other)
      lateness.turn()
      fill()
      return
    }
    // The peer may have been asked while it still sent its last piece.
    const givesOthers = known.of(giver.peer).gaveAt > clock.now() - silence
    if (silence < stallTimeout || (givesOthers && silence < LONGEST_STALL)) void look()
    else lose(piece, piece.request, silentFor(stallTimeout), false)
  }

  async function cancel(): Promise<void> {
    stop.abort(OVER)
    lateness.close()
    endSpent()
    for (const piece of line.splice(0)) takeAway(piece)
  }

  return {
    /** Whether a peer sends, or has sent, some of the bytes. */
    uses: (peer: Peer): boolean => givers.has(peer),

    /** @throws {PeerError} if no peer is left for the next byte */
    async next(): Promise<Uint8Array | undefined> {
      const since = clock.now()
      endSpent()
      try {
        while (offset < span.end) {
          throwIfStopped()
          lateness.begin(since)
          fill()
          const piece = line[0] ?? nextPiece(FIRST_PIECE)
          // A peer that was late is tried again if that costs nothing.
          const asked = piece.request
          if (asked?.giver.isOnTrial === true && !asked.isOpen && besides(asked.giver) !== undefined) replaceLate()
          const running = piece.request ?? (await assign(piece))
          const chunk = running && (await read(piece, running))
          if (chunk !== undefined) return chunk
        }
        return undefined
      } catch (error) {
        await cancel()
        throw error
      }
    },

    cancel,
  }
}
