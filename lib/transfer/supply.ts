import type { Source } from '../flight/flight.ts'
import { PeerError } from '../peers/error.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Clock } from '../platform/clock.ts'
import type { Peer } from '../swarm/router.ts'
import { TurnError } from './following.ts'
import { PieceRefusal, type Span } from './line.ts'

export interface SupplyDependencies {
  /** The bytes of a span from peers that have them, the given one first. */
  readonly pieces: (span: Span, first: Peer | undefined) => ByteSource
  /** The same from a peer that is getting them, as it gets them. */
  readonly following: (span: Span, parent: Peer) => ByteSource
  /**
   * A peer that may have the bytes from that place on, or be getting them; `undefined` if there is none.
   *
   * @param isKnown whether only those are wanted that were found before, and are still getting them
   * @param isFirst whether nobody has begun to give any, so that a peer may do that has none yet
   */
  readonly source: (offset: number, isKnown: boolean, isFirst: boolean) => Promise<Source | undefined>
  /** Somebody who is getting them, too, and had better be followed than the peer that is followed now. */
  readonly better: () => Peer | undefined
  /** A peer that was followed has given so many bytes. */
  readonly gave: (parent: Peer, bytes: number) => void
  /** A peer is followed no longer, and why if it did not give all that it should. */
  readonly left: (parent: Peer, offset: number, error: unknown) => void
  readonly clock: Clock
}

/**
 * The bytes of a span, from those that have them, or from one that is getting them. When whoever gives them is lost, somebody
 * else of either kind goes on at that byte.
 */
export class Supply implements ByteSource {
  readonly #dependencies: SupplyDependencies
  readonly #longestWait: number
  readonly #start: number
  readonly #end: number
  #offset: number
  #body: ByteSource
  /** Whom the bytes come from, if it is getting them itself. */
  #parent: Peer | undefined
  #isCancelled = false

  /**
   * @param first gives the first bytes
   * @param longestWait milliseconds that a client waits for a byte before no other peer is asked for it
   */
  constructor(dependencies: SupplyDependencies, { start, end }: Span, first: ByteSource | Source, longestWait: number) {
    this.#dependencies = dependencies
    this.#start = start
    this.#offset = start
    this.#end = end
    this.#longestWait = longestWait
    const isPeer = 'host' in first
    this.#parent = isPeer ? first : undefined
    this.#body = isPeer ? dependencies.following({ start, end }, first) : first
  }

  /** @throws {PeerError} when no peer is left for the next byte */
  async next(): Promise<Uint8Array | undefined> {
    const { gave, clock } = this.#dependencies
    const since = clock.now()
    for (;;) {
      if (this.#offset === this.#end) return undefined
      const better = this.#parent && this.#dependencies.better()
      if (better !== undefined) await this.#move(better)
      try {
        const chunk = await this.#body.next()
        if (chunk === undefined) return undefined
        this.#offset += chunk.length
        if (this.#parent !== undefined) gave(this.#parent, chunk.length)
        return chunk
      } catch (error) {
        await this.#body.cancel()
        if (this.#isCancelled || !(error instanceof PeerError || error instanceof PieceRefusal)) throw error
        await this.#replace(error, clock.now() - since >= this.#longestWait)
      }
    }
  }

  async cancel(): Promise<void> {
    this.#isCancelled = true
    await this.#body.cancel()
  }

  /** Goes on at this byte from a peer that had better be followed. */
  async #move(next: Peer): Promise<void> {
    await this.#body.cancel()
    if (this.#isCancelled) return
    this.#parent = next
    this.#body = this.#dependencies.following({ start: this.#offset, end: this.#end }, next)
  }

  /** @throws the error if nobody goes on */
  async #replace(error: PeerError | PieceRefusal, isLate: boolean): Promise<void> {
    const { pieces, following, source, left } = this.#dependencies
    // The client asks again.
    if (error instanceof TurnError && this.#offset === this.#start) throw error
    const span = { start: this.#offset, end: this.#end }
    // Those who have the bytes have been looked for already where they were to come from these.
    const isKnown = this.#parent === undefined
    const isFirst = this.#offset === this.#start && error instanceof PieceRefusal
    if (this.#parent !== undefined) left(this.#parent, this.#offset, error)
    const next = isLate ? undefined : await source(this.#offset, isKnown, isFirst)
    if (next === undefined || this.#isCancelled) {
      throw error instanceof PeerError ? error : new PeerError('no peer left', { cause: error })
    }
    this.#parent = next.isArriving === true ? next : undefined
    this.#body = next.isArriving === true ? following(span, next) : pieces(span, next)
  }
}
