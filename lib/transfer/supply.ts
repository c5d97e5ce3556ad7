import type { Source } from '../flight/flight.ts'
import type { Descriptor } from '../oci/digest.ts'
import { digestKey } from '../oci/key.ts'
import { PeerError } from '../peers/error.ts'
import { addressOf } from '../platform/address.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Peer } from '../swarm/router.ts'
import type { PeerHead, PeerRefusal } from './ask.ts'
import { following, TurnError } from './following.ts'
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
  const supply = supplyOf(transfer, descriptor, span, first, before)
  const givers = () => distinct([...before, ...transfer.givers])
  const ended = async (ending: Ending) => {
    if (ending === 'corrupt' && supply.hasFollowed()) flight.wrong(descriptor.digest)
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

/** `hasFollowed`: whether any of it was to come from a peer that was getting it. */
interface Supply extends ByteSource {
  readonly hasFollowed: () => boolean
}

/**
 * The bytes of a span, from those that have them, or from one that is getting them. When whoever gives them is lost, somebody
 * else of either kind goes on at that byte. Fails with a PeerError when no peer is left for the next byte.
 */
function supplyOf(
  transfer: Transfer,
  descriptor: Descriptor,
  { start, end }: Span,
  first: BegunSpan | Source | undefined,
  before: readonly Peer[],
): Supply {
  const { dependencies, options, search, target, key } = transfer
  const { flight, known, metrics, log, clock, address } = dependencies
  const { digest, size } = descriptor
  const isBegun = first !== undefined && 'body' in first
  /** The peers that told the size of the content. */
  const tellers = first === undefined ? before : [isBegun ? first.peer : first]
  /** Addresses of those that were followed, and have failed since another one gave a byte. */
  const lost = new Set<string>()
  let offset = start
  let pieces: Pieces | undefined
  /** Whom the bytes come from, if it is getting them itself. */
  let parent: Peer | undefined
  let hasFollowed = false
  let isCancelled = false

  /** Asks a peer that may have the bytes for some of them. */
  const ask = async (peer: Peer, wanted: Span, signal: AbortSignal): Promise<ByteSource> => {
    // A door gives the whole of a manifest.
    const isWhole = target.kind === 'manifest'
    const span = isWhole ? { start: 0, end: size } : wanted
    const answer = await transfer.ask(
      peer,
      { target, method: 'GET', range: isWhole ? undefined : rangeOf(span) },
      signal,
    )
    if (answer.kind === 'busy') throw new PieceRefusal(answer.retryAfterMs)
    if (answer.kind === 'missing') throw new PieceRefusal()
    const given = bodyOf(answer, descriptor, span)
    if (given !== undefined) return isWhole ? behind(given, wanted.start) : given
    const told = answer.kind === 'content' ? answer.descriptor : { digest, size: answer.size }
    if (told.digest === digest && told.size !== size) {
      // One of them is wrong, and it cannot be said which: this transfer keeps to the size that its client knows, and the next
      // ones do not begin with the peers that told it, for a while.
      for (const suspect of tellers) known.wrongContent(suspect, digestKey(digest), true)
      metrics.transferBreaks.inc({ reason: 'invalid' })
      log.warn('peers disagree', { key, size, told: tellers, peer })
    }
    throw new PieceRefusal()
  }

  /** The bytes from peers that have them: from that one first, or from one that has begun to give them. */
  const piecesFrom = (next: Peer | undefined, begun?: BegunSpan): Pieces => {
    let given = next
    const candidate = async () => {
      const found = given ?? (await search.candidate(({ isArriving }) => isArriving !== true))
      given = undefined
      return found
    }
    parent = undefined
    pieces = new Pieces({ ...dependencies, told: transfer, ask, candidate }, options, { start: offset, end }, begun)
    return pieces
  }

  /** The bytes from a peer that is getting them. */
  const follow = (peer: Peer): ByteSource => {
    const span = { start: offset, end }
    parent = peer
    hasFollowed = true
    log.info('following', { key, parent, offset })
    const attempt = transfer.attempt(peer)
    if (attempt !== undefined) attempt.isArriving = true
    const request = { target, method: 'GET', range: rangeOf(span), follower: address } as const
    const open = async (signal: AbortSignal) =>
      bodyOf(await dependencies.ask(peer, request, signal), descriptor, span) ?? Promise.reject(new PieceRefusal())
    return following({ open, state: (signal) => flight.state(peer, digest, signal), clock }, offset)
  }

  /** A peer is followed no longer. That it did not get all says nothing against it. */
  const leave = (peer: Peer, error: unknown) => {
    lost.add(addressOf(peer))
    const isSilent = error instanceof PeerError && error.failure === 'silent'
    if (isSilent) known.of(peer).failed('silent')
    transfer.ended(peer, isSilent ? 'silent' : 'gone')
    flight.left(peer, digest, error instanceof PieceRefusal)
    log.info('parent lost', { key, parent: peer, offset, error })
  }

  /**
   * A peer that may have the bytes from this place on, or be getting them; `undefined` if there is none.
   *
   * @param isKnown whether only those are wanted that were found before, and are still getting them
   * @param isFirst whether nobody has begun to give any, so that a peer may do that has none yet
   */
  const another = async (isKnown: boolean, isFirst: boolean): Promise<Source | undefined> => {
    for (;;) {
      const found = isKnown ? await search.arriving() : await search.candidate()
      if (found === undefined) return undefined
      const { isArriving, ...peer } = found
      const state = isArriving === true ? await search.stateOf(found, offset, isFirst) : 'held'
      if (state === undefined) lost.add(addressOf(peer))
      else {
        transfer.resumed(peer, offset)
        return state === 'held' ? peer : found
      }
    }
  }

  /** What goes on at this byte. @throws the error if nobody does */
  const replace = async (error: PeerError | PieceRefusal, isLate: boolean): Promise<ByteSource> => {
    const isFirst = offset === start
    // The client asks again.
    if (error instanceof TurnError && isFirst) throw error
    // Those who have the bytes have been looked for already where they were to come from these.
    const isKnown = parent === undefined
    if (parent !== undefined) leave(parent, error)
    const next = isLate ? undefined : await another(isKnown, isFirst)
    if (next === undefined || isCancelled) {
      throw error instanceof PeerError ? error : new PeerError('no peer left', { cause: error })
    }
    return next.isArriving === true ? follow(next) : piecesFrom(next)
  }

  transfer.excludes = (peer) => (peer.isArriving === true ? lost.has(addressOf(peer)) : pieces?.uses(peer) === true)
  let body = first === undefined || isBegun ? piecesFrom(undefined, first) : follow(first)
  return {
    hasFollowed: () => hasFollowed,
    async next() {
      const since = clock.now()
      while (offset < end) {
        const better = parent && flight.better(digest)
        if (parent !== undefined && better !== undefined) {
          transfer.ended(parent, 'moved')
          await body.cancel()
          if (!isCancelled) body = better.isArriving === true ? follow(better) : piecesFrom(better)
        }
        try {
          const chunk = await body.next()
          if (chunk === undefined) return undefined
          offset += chunk.length
          if (parent !== undefined) {
            lost.clear()
            transfer.gave(parent, chunk.length)
          }
          return chunk
        } catch (error) {
          await body.cancel()
          if (isCancelled || !(error instanceof PeerError || error instanceof PieceRefusal)) throw error
          body = await replace(error, clock.now() - since >= options.longestWait)
        }
      }
      return undefined
    },
    async cancel() {
      isCancelled = true
      await body.cancel()
    },
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
