import { PeerError } from '../peers/error.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Peer } from '../swarm/router.ts'
import type { PieceRequest } from './givers.ts'

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

/** Cancels the request for a piece. */
export function takeAway(piece: Piece): void {
  piece.request?.cancel()
  piece.request = undefined
}

/** Thrown if a peer does not send a piece because it does not have the content or has too much to do. It is no fault. */
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
