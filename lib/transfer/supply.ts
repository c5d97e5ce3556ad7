import type { Source } from '../flight/flight.ts'
import type { Descriptor } from '../oci/digest.ts'
import { digestKey } from '../oci/key.ts'
import { PeerError } from '../peers/error.ts'
import { addressOf } from '../platform/address.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Peer } from '../swarm/router.ts'
import type { PeerHead, PeerRefusal } from './ask.ts'
import { following, TurnError } from './following.ts'
import { type BegunSpan, PieceRefusal, type Span } from './piece.ts'
import { createPieces, type Pieces } from './pieces.ts'
import type { Transfer } from './transfer.ts'
import { type Ending, inOneChunk, type Verifier, verified } from './verify.ts'

/**
 * Blobs up to this size are read completely and verified before their first byte is sent, like manifests of any size. Then
 * wrong content costs only a question to another peer, and not the pull. Configs have a few KiB, so even many take little
 * memory.
 */
const SMALL = 64 * 1024

/**
 * The bytes of a span, from peers that have them. The transfer is over when the bytes are.
 *
 * @param first the peer for the first bytes; it has them or is getting them
 * @param verifier has seen the bytes before the span; missing if they are not verified
 * @param before the peers that gave the bytes before the span
 * @returns the bytes, and the peers that have given any of them so far
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

/**
 * The bytes of a span, from peers that have them, or from a peer that is getting them. If the present peer is lost, another one
 * of either kind continues at that byte. Fails with a PeerError if no peer is left for the next byte.
 */
function supplyOf(
  transfer: Transfer,
  descriptor: Descriptor,
  { start, end }: Span,
  first: BegunSpan | Source | undefined,
  before: readonly Peer[],
) {
  const { dependencies, options, search, target, key } = transfer
  const { flight, known, metrics, log, clock, address } = dependencies
  const { digest, size } = descriptor
  const isBegun = first !== undefined && 'body' in first
  /** The peers that told the size of the content. */
  const tellers = first === undefined ? before : [isBegun ? first.peer : first]
  /** The addresses of followed peers that have failed since another one gave a byte. */
  const lost = new Set<string>()
  let offset = start
  let pieces: Pieces | undefined
  /** The peer that this node follows, if it follows one. */
  let parent: Peer | undefined
  let hasFollowed = false
  let isCancelled = false

  /** Asks a peer that may have the bytes for a span of them. */
  const ask = async (peer: Peer, wanted: Span, signal: AbortSignal): Promise<ByteSource> => {
    // A door always sends a whole manifest.
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
      // One of the peers is wrong, but it is not known which one. This transfer keeps the size that its client knows, and for a
      // while the next ones do not begin with the peers that told it.
      for (const suspect of tellers) known.wrongContent(suspect, digestKey(digest), true)
      metrics.transferBreaks.inc({ reason: 'invalid' })
      log.warn('peers disagree', { key, size, told: tellers, peer })
    }
    throw new PieceRefusal()
  }

  /** The bytes from peers that have them, and from `next` first. */
  const piecesFrom = (next: BegunSpan | Peer | undefined): Pieces => {
    const candidate = () => search.candidate(({ isArriving }) => isArriving !== true)
    parent = undefined
    pieces = createPieces({ ...dependencies, told: transfer, ask, candidate }, options, { start: offset, end }, next)
    return pieces
  }

  /** The bytes from a peer that is still getting them. */
  const follow = ({ crowd, ...peer }: Source): ByteSource => {
    const span = { start: offset, end }
    parent = peer
    hasFollowed = true
    log.info('following', { key, parent, offset })
    const attempt = transfer.attempt(peer)
    if (attempt !== undefined) attempt.isArriving = true
    const request = { target, method: 'GET', range: rangeOf(span), follower: address } as const
    const given = async (signal: AbortSignal) => bodyOf(await dependencies.ask(peer, request, signal), descriptor, span)
    const state = (signal: AbortSignal) => flight.state(peer, digest, signal)
    const open = async (signal: AbortSignal) => {
      const first = await given(signal)
      if (first !== undefined) return first
      // For some milliseconds after the last byte, the peer neither gets it any more nor holds it yet.
      const isHeld = (await state(signal))?.kind === 'held'
      return (isHeld ? await given(signal) : undefined) ?? Promise.reject(new PieceRefusal())
    }
    return following({ open, state, clock, crowd }, offset)
  }

  /** Stops following a peer. It does not count against the peer that it did not get everything. */
  const leave = (peer: Peer, error: PeerError) => {
    lost.add(addressOf(peer))
    const isSilent = error.failure === 'silent'
    if (isSilent) known.of(peer).failed('silent')
    transfer.ended(peer, isSilent ? 'silent' : 'gone')
    flight.left(peer, digest, error instanceof PieceRefusal)
    log.info('parent lost', { key, parent: peer, offset, error })
  }

  /**
   * A peer that may have the bytes from this offset on, or be getting them; `undefined` if there is none.
   *
   * @param isKnown whether to return only a peer that was found before and is still getting the bytes
   * @param isFirst whether no peer has sent a byte yet, so that a peer without bytes may do
   */
  const another = async (isKnown: boolean, isFirst: boolean): Promise<Source | undefined> => {
    for (;;) {
      const found = isKnown ? await search.arriving() : await search.candidate()
      if (found === undefined) return undefined
      const { isArriving, crowd: _, ...peer } = found
      const state = isArriving === true ? await search.stateOf(found, offset, isFirst) : 'held'
      if (state === undefined) lost.add(addressOf(peer))
      else {
        transfer.resumed(peer, offset)
        return state === 'held' ? peer : found
      }
    }
  }

  /** A source that continues at this byte. @throws the error if no peer does */
  const replace = async (error: PeerError, isLate: boolean): Promise<ByteSource> => {
    const isFirst = offset === start
    // The client will ask again.
    if (error instanceof TurnError && isFirst) throw error
    // Unless this node followed a peer, peers that have the bytes have already been looked for.
    const isKnown = parent === undefined
    if (parent !== undefined) leave(parent, error)
    const next = isLate ? undefined : await another(isKnown, isFirst)
    if (next === undefined || isCancelled) {
      throw error instanceof PieceRefusal ? new PeerError('no peer left', { cause: error }) : error
    }
    return next.isArriving === true ? follow(next) : piecesFrom(next)
  }

  transfer.excludes = (peer) => (peer.isArriving === true ? lost.has(addressOf(peer)) : pieces?.uses(peer) === true)
  let body = first === undefined || isBegun ? piecesFrom(first) : follow(first)
  return {
    /** Whether this node has followed a peer for any of the bytes. */
    hasFollowed: (): boolean => hasFollowed,

    async next(): Promise<Uint8Array | undefined> {
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
          if (isCancelled || !(error instanceof PeerError)) throw error
          body = await replace(error, clock.now() - since >= options.longestWait)
        }
      }
      return undefined
    },
    async cancel(): Promise<void> {
      isCancelled = true
      await body.cancel()
    },
  }
}

function rangeOf({ start, end }: Span): string {
  return `bytes=${start}-${end - 1}`
}

/** The body of an answer, if it is that span of the known content; any other body is cancelled. */
function bodyOf(answer: PeerHead | PeerRefusal, { digest, size }: Descriptor, { end }: Span): ByteSource | undefined {
  if (answer.kind !== 'content') return undefined
  const { descriptor, range, body } = answer
  // The tag may point to other content there.
  const isSame = descriptor.digest === digest && descriptor.size === size
  if (isSame && (range?.end ?? size - 1) === end - 1) return body
  void body.cancel()
  return undefined
}

/** The rest of a source, after its first `count` bytes. */
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
