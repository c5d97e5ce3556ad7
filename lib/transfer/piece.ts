import { PeerError } from '../peers/error.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Peer } from '../swarm/router.ts'
import type { Giver, PieceRequest } from './givers.ts'

/** A part of some content; `end` is after its last byte. */
export interface Span {
  readonly start: number
  readonly end: number
}

/** A span that a peer has begun to send. */
export interface BegunSpan extends Span {
  readonly peer: Peer
  readonly body: ByteSource
}

/** A part of a span that is asked for at once. */
export interface Piece {
  readonly start: number
  /** The offset of the next byte. */
  at: number
  end: number
  /** Missing if no peer has been asked for the piece yet, or none is any more. */
  request?: PieceRequest | undefined
}

/** The factor by which a piece may be too long, so that no small rest is left. */
const LONGER = 1.25

/** The pieces of a span that are under way, in order. */
export class Line {
  readonly #pieces: Piece[] = []
  readonly #end: number
  /** The end of the last piece. */
  #frontier: number

  constructor({ start, end }: Span) {
    this.#frontier = start
    this.#end = end
  }

  /** The piece of which the client wants bytes. */
  get first(): Piece | undefined {
    return this.#pieces[0]
  }

  /** The first piece that no peer is asked for. */
  get open(): Piece | undefined {
    return this.#pieces.find(({ request }) => request === undefined)
  }

  /** Bytes of the span behind the last piece. */
  get left(): number {
    return this.#end - this.#frontier
  }

  /** Bytes of the pieces behind the first one. */
  get ahead(): number {
    return this.#frontier - (this.first?.end ?? this.#frontier)
  }

  /**
   * Appends a piece of about that many bytes. If the rest would be too small for another piece, it becomes part of this one.
   */
  append(size: number): Piece {
    return this.push(this.left < size * LONGER ? this.#end : this.#frontier + size)
  }

  /** Appends a piece up to that offset. */
  push(end: number): Piece {
    const piece = { start: this.#frontier, at: this.#frontier, end }
    this.#pieces.push(piece)
    this.#frontier = end
    return piece
  }

  /** Removes the first piece, which is complete. */
  shift(): void {
    this.#pieces.shift()
  }

  /** Splits a piece in two if it has more than about `size` bytes left. */
  split(piece: Piece, size: number): void {
    const end = piece.at + size
    if (piece.end - piece.at < size * LONGER) return
    this.#pieces.splice(this.#pieces.indexOf(piece) + 1, 0, { start: end, at: end, end: piece.end })
    piece.end = end
  }

  /** Takes all pieces away from a peer. */
  release(giver: Giver): void {
    for (const piece of this.#pieces) if (piece.request?.giver === giver) takeAway(piece)
  }

  /** Removes all pieces, and cancels their requests. */
  clear(): void {
    for (const piece of this.#pieces.splice(0)) takeAway(piece)
  }
}

/** Cancels the request for a piece. */
export function takeAway(piece: Piece): void {
  piece.request?.cancel()
  piece.request = undefined
}

/** Thrown if a peer does not send a piece because it does not have the content or has too much to do. It is not held against it. */
export class PieceRefusal extends PeerError {
  override readonly name = 'PieceRefusal'
  /** Milliseconds after which the peer may be asked again; `undefined` if it does not have the content. */
  readonly retryAfterMs: number | undefined

  constructor(retryAfterMs?: number) {
    super(retryAfterMs === undefined ? 'not there' : 'busy')
    this.retryAfterMs = retryAfterMs
  }
}

export function silentFor(ms: number): PeerError {
  return new PeerError(`no byte within ${ms} ms`, { failure: 'silent' })
}
