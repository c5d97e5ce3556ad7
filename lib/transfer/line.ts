import { PeerError } from '../peers/error.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Peer } from '../swarm/router.ts'
import type { Giver, PieceRequest } from './givers.ts'

/** A part of some content; `end` is after its last byte. */
export interface Span {
  readonly start: number
  readonly end: number
}

/** A span that a peer has begun to give. */
export interface BegunSpan extends Span {
  readonly peer: Peer
  readonly body: ByteSource
}

/** A part of a span that is asked for at a time. */
export interface Piece {
  readonly start: number
  /** Place of the next byte that is to come. */
  at: number
  end: number
  /** Missing if no peer is asked for it yet, or none any more. */
  request?: PieceRequest | undefined
}

/** By how much a piece may be longer than it should be, rather than that a small one is left. */
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

  /** The piece that the client wants bytes of. */
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

  /** Puts a piece of about that many bytes at the end: what would be too little for one more is part of it. */
  append(size: number): Piece {
    return this.push(this.left < size * LONGER ? this.#end : this.#frontier + size)
  }

  /** Puts a piece at the end, up to that place. */
  push(end: number): Piece {
    const piece = { start: this.#frontier, at: this.#frontier, end }
    this.#pieces.push(piece)
    this.#frontier = end
    return piece
  }

  /** The first piece is whole. */
  shift(): void {
    this.#pieces.shift()
  }

  /** Makes two pieces of one if it is longer than about that from where it is. */
  split(piece: Piece, size: number): void {
    const end = piece.at + size
    if (piece.end - piece.at < size * LONGER) return
    this.#pieces.splice(this.#pieces.indexOf(piece) + 1, 0, { start: end, at: end, end: piece.end })
    piece.end = end
  }

  /** Takes away from a peer what it was to give. */
  release(giver: Giver): void {
    for (const piece of this.#pieces) if (piece.request?.giver === giver) takeAway(piece)
  }

  /** Ends all. */
  clear(): void {
    for (const piece of this.#pieces.splice(0)) takeAway(piece)
  }
}

/** The peer that was asked for a piece is asked no longer. */
export function takeAway(piece: Piece): void {
  piece.request?.cancel()
  piece.request = undefined
}

/** A peer that does not give a piece, which is no failure: it does not have the content, or has too much to do. */
export class PieceRefusal extends Error {
  override readonly name = 'PieceRefusal'
  /** Milliseconds after which it may be asked again; `undefined` if it does not have the content. */
  readonly retryAfterMs: number | undefined

  constructor(retryAfterMs?: number) {
    super(retryAfterMs === undefined ? 'not there' : 'busy')
    this.retryAfterMs = retryAfterMs
  }
}

export function silentFor(ms: number): PeerError {
  return new PeerError(`no byte within ${ms} ms`, { failure: 'silent' })
}

/** Whether it is a peer's fault, or its refusal. */
export function isOfPeer(error: unknown): error is PeerError | PieceRefusal {
  return error instanceof PeerError || error instanceof PieceRefusal
}
