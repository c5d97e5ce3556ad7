import type { Source } from '../flight/flight.ts'
import type { Descriptor } from '../oci/digest.ts'
import { digestKey } from '../oci/key.ts'
import { PeerError } from '../peers/error.ts'
import { addressOf } from '../platform/address.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Peer } from '../swarm/router.ts'
import type { PeerHead, PeerRefusal } from './ask.ts'
import { Following, TurnError } from './following.ts'
import { type BegunSpan, PieceRefusal, type Span } from './line.ts'
import { Pieces } from './pieces.ts'
import type { Transfer } from './transfer.ts'
import { type Ending, inOneChunk, type Verifier, verified } from './verify.ts'

/**
 * Blobs up to this size are read whole and verified before their first byte is sent, as manifests are whatever their size: then
 * wrong content costs a question to another peer, not the pull. Configs are a few KiB; what is held is little even for many.
 */
const SMALL = 64 * 1024

/**
 * The bytes of a span, from the peers that have them. The transfer is over when they are.
 *
 * @param first gives the first of them: a peer that has them, or one that is getting them
 * @param verifier has seen the bytes before them; missing if they are not verified
 * @param before the peers that gave those
 * @returns the bytes, and which peers have given any of them so far
 */
export function bytesOf(
  transfer: Transfer,
  descriptor: Descriptor,
  span: Span,
  first?: BegunSpan | Source,
  verifier?: Verifier,
  before: readonly Source[] = [],
): { readonly source: ByteSource; readonly givers: () => readonly Source[] } {
  const { flight, passing, clock } = transfer.dependencies
  const supply = new Supply(transfer, descriptor, span, first, before)
  const givers = () => distinct([...before, ...transfer.givers])
  const ended = async (ending: Ending) => {
    if (ending === 'corrupt' && supply.hasFollowed) flight.wrong(descriptor.digest)
    if (ending === 'corrupt') await transfer.blame(descriptor, givers())
    transfer.finish(ending)
  }
  const length = span.end - span.start
  const isManifest = transfer.target.kind === 'manifest'
  const isSmall = verifier !== undefined && (length <= SMALL || isManifest)
  const source = verified(isSmall ? inOneChunk(supply, length, clock) : supply, length, verifier, ended)
  const passed = isManifest ? undefined : passing?.(descriptor.digest, span.start, length, source)
  return { source: passed ?? source, givers }
}

/**
 * The bytes of a span, from those that have them, or from one that is getting them. When whoever gives them is lost, somebody
 * else of either kind goes on at that byte.
 */
class Supply implements ByteSource {
  /** Whether any of it was to come from a peer that was getting it. */
  hasFollowed = false
  readonly #transfer: Transfer
  readonly #descriptor: Descriptor
  readonly #span: Span
  /** The peers that told the size of the content. */
  readonly #tellers: readonly Peer[]
  /** Addresses of those that were followed, and have failed since another one gave a byte. */
  readonly #lost = new Set<string>()
  #offset: number
  #body: ByteSource
  #pieces: Pieces | undefined
  /** Whom the bytes come from, if it is getting them itself. */
  #parent: Peer | undefined
  #isCancelled = false

  constructor(
    transfer: Transfer,
    descriptor: Descriptor,
    span: Span,
    first: BegunSpan | Source | undefined,
    before: readonly Peer[],
  ) {
    this.#transfer = transfer
    this.#descriptor = descriptor
    this.#span = span
    this.#offset = span.start
    const isBegun = first !== undefined && 'body' in first
    this.#tellers = first === undefined ? before : [isBegun ? first.peer : first]
    transfer.excludes = (peer) =>
      peer.isArriving === true ? this.#lost.has(addressOf(peer)) : this.#pieces?.uses(peer) === true
    this.#body = first === undefined || isBegun ? this.#piecesOf(undefined, first) : this.#follow(first)
  }

  /** @throws {PeerError} when no peer is left for the next byte */
  async next(): Promise<Uint8Array | undefined> {
    const { flight, clock } = this.#transfer.dependencies
    const since = clock.now()
    for (;;) {
      if (this.#offset === this.#span.end) return undefined
      const better = this.#parent && flight.better(this.#descriptor.digest)
      if (this.#parent !== undefined && better !== undefined) await this.#move(this.#parent, better)
      try {
        const chunk = await this.#body.next()
        if (chunk === undefined) return undefined
        this.#offset += chunk.length
        if (this.#parent !== undefined) {
          this.#lost.clear()
          this.#transfer.gave(this.#parent, chunk.length)
        }
        return chunk
      } catch (error) {
        await this.#body.cancel()
        if (this.#isCancelled || !(error instanceof PeerError || error instanceof PieceRefusal)) throw error
        await this.#replace(error, clock.now() - since >= this.#transfer.options.longestWait)
      }
    }
  }

  async cancel(): Promise<void> {
    this.#isCancelled = true
    await this.#body.cancel()
  }

  /** What is left of the span. */
  get #left(): Span {
    return { start: this.#offset, end: this.#span.end }
  }

  /** Goes on at this byte from a peer that had better be followed. */
  async #move(from: Peer, next: Peer): Promise<void> {
    this.#transfer.ended(from, 'moved')
    await this.#body.cancel()
    if (!this.#isCancelled) this.#body = this.#follow(next)
  }

  /** @throws the error if nobody goes on */
  async #replace(error: PeerError | PieceRefusal, isLate: boolean): Promise<void> {
    const isStart = this.#offset === this.#span.start
    // The client asks again.
    if (error instanceof TurnError && isStart) throw error
    // Those who have the bytes have been looked for already where they were to come from these.
    const isKnown = this.#parent === undefined
    if (this.#parent !== undefined) this.#leave(this.#parent, error)
    const next = isLate ? undefined : await this.#source(isKnown, isStart)
    if (next === undefined || this.#isCancelled) {
      throw error instanceof PeerError ? error : new PeerError('no peer left', { cause: error })
    }
    this.#body = next.isArriving === true ? this.#follow(next) : this.#piecesOf(next)
  }

  /**
   * A peer that may have the bytes from this place on, or be getting them; `undefined` if there is none.
   *
   * @param isKnown whether only those are wanted that were found before, and are still getting them
   * @param isFirst whether nobody has begun to give any, so that a peer may do that has none yet
   */
  async #source(isKnown: boolean, isFirst: boolean): Promise<Source | undefined> {
    const { search } = this.#transfer
    for (;;) {
      const found = isKnown ? await search.arriving() : await search.candidate()
      if (found === undefined) return undefined
      const { isArriving, ...peer } = found
      const state = isArriving === true ? await search.stateOf(found, this.#offset, isFirst) : 'held'
      if (state === undefined) this.#lost.add(addressOf(peer))
      else {
        this.#transfer.resumed(peer, this.#offset)
        return state === 'held' ? peer : found
      }
    }
  }

  /** The bytes from peers that have them: from that one first, or from one that has begun to give them. */
  #piecesOf(first: Peer | undefined, begun?: BegunSpan): Pieces {
    const { dependencies, options, search } = this.#transfer
    let next = first
    const pieces = {
      ...dependencies,
      told: this.#transfer,
      ask: (peer: Peer, span: Span, signal: AbortSignal) => this.#ask(peer, span, signal),
      candidate: async () => {
        const given = next
        next = undefined
        return given ?? (await search.candidate(({ isArriving }) => isArriving !== true))
      },
    }
    this.#parent = undefined
    this.#pieces = new Pieces(pieces, options, this.#left, begun)
    return this.#pieces
  }

  /** The bytes from a peer that is getting them. */
  #follow(parent: Peer): Following {
    const { dependencies, target, key } = this.#transfer
    const { ask, flight, log, clock, address } = dependencies
    const [descriptor, span] = [this.#descriptor, this.#left]
    this.#parent = parent
    this.hasFollowed = true
    log.info('following', { key, parent, offset: span.start })
    const attempt = this.#transfer.attempt(parent)
    if (attempt !== undefined) attempt.isArriving = true
    const request = { target, method: 'GET', range: rangeOf(span), follower: address } as const
    const open = async (signal: AbortSignal) =>
      bodyOf(await ask(parent, request, signal), descriptor, span) ?? Promise.reject(new PieceRefusal())
    const state = (signal: AbortSignal) => flight.state(parent, descriptor.digest, signal)
    return new Following({ open, state, clock }, span.start)
  }

  /** A peer is followed no longer. That it did not get all says nothing against it. */
  #leave(parent: Peer, error: unknown): void {
    const { dependencies, key } = this.#transfer
    const { known, flight, log } = dependencies
    this.#lost.add(addressOf(parent))
    const isSilent = error instanceof PeerError && error.failure === 'silent'
    if (isSilent) known.of(parent).failed('silent')
    this.#transfer.ended(parent, isSilent ? 'silent' : 'gone')
    flight.left(parent, this.#descriptor.digest, error instanceof PieceRefusal)
    log.info('parent lost', { key, parent, offset: this.#offset, error })
  }

  /** Asks a peer that may have the bytes for some of them. */
  async #ask(peer: Peer, { start, end }: Span, signal: AbortSignal): Promise<ByteSource> {
    const { dependencies, target, key } = this.#transfer
    const [descriptor, told] = [this.#descriptor, this.#tellers]
    // A door gives the whole of a manifest.
    const isWhole = target.kind === 'manifest'
    const span = isWhole ? { start: 0, end: descriptor.size } : { start, end }
    const range = isWhole ? undefined : rangeOf(span)
    const answer = await this.#transfer.ask(peer, { target, method: 'GET', range }, signal)
    if (answer.kind === 'busy') throw new PieceRefusal(answer.retryAfterMs)
    if (answer.kind === 'missing') throw new PieceRefusal()
    const body = bodyOf(answer, descriptor, span)
    if (body !== undefined) return isWhole ? behind(body, start) : body
    const { size } = answer.kind === 'content' ? answer.descriptor : answer
    const isOther = answer.kind === 'content' && answer.descriptor.digest !== descriptor.digest
    if (!isOther && size !== descriptor.size) {
      const { known, metrics, log } = dependencies
      // One of them is wrong, and it cannot be said which: this transfer keeps to the size that its client knows, and the next
      // ones do not begin with the peers that told it, for a while.
      for (const suspect of told) known.wrongContent(suspect, digestKey(descriptor.digest), true)
      metrics.transferBreaks.inc({ reason: 'invalid' })
      log.warn('peers disagree', { key, size: descriptor.size, told, peer })
    }
    throw new PieceRefusal()
  }
}

function rangeOf({ start, end }: Span): string {
  return `bytes=${start}-${end - 1}`
}

/** The body of an answer that is that span of the content that is known; that of any other is ended. */
function bodyOf(answer: PeerHead | PeerRefusal, { digest, size }: Descriptor, { end }: Span): ByteSource | undefined {
  if (answer.kind !== 'content') return undefined
  const { descriptor, range, body } = answer
  // A tag may be that of something else there.
  const isSame = descriptor.digest === digest && descriptor.size === size
  if (isSame && (range?.end ?? size - 1) === end - 1) return body
  void body.cancel()
  return undefined
}

/** What follows the first so many bytes of a source. */
function behind(source: ByteSource, count: number): ByteSource {
  let left = count
  return {
    async next() {
      for (;;) {
        const chunk = await source.next()
        const passed = Math.min(left, chunk?.length ?? 0)
        left -= passed
        if (chunk === undefined || passed < chunk.length) return chunk?.subarray(passed)
      }
    },
    cancel: () => source.cancel(),
  }
}

function distinct(peers: readonly Source[]): Source[] {
  return [...new Map(peers.map((peer) => [addressOf(peer), peer])).values()]
}
