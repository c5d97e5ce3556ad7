import type { Source } from '../flight/flight.ts'
import type { Attempt, TransferOutcome, Transferred } from '../observe/activity.ts'
import type { Descriptor, Digest } from '../oci/digest.ts'
import { digestKey, targetKey } from '../oci/key.ts'
import { PeerError } from '../peers/error.ts'
import { bounded, onAbort } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Peer } from '../swarm/router.ts'
import type { PeerHead, PeerRefusal, PeerRequest } from './ask.ts'
import { Following } from './following.ts'
import { type BegunSpan, PieceRefusal, type Span } from './line.ts'
import { Pieces, type PiecesDependencies, type PiecesOptions, type PiecesTransfer } from './pieces.ts'
import type { Winner } from './race.ts'
import { type Found, Search, type SearchDependencies, type SearchOptions } from './search.ts'
import { Supply } from './supply.ts'
import { type Ending, inOneChunk, VerificationError, Verifier, verified } from './verify.ts'

export interface TransferDependencies extends SearchDependencies, Pick<PiecesDependencies, 'ahead'> {
  /** Told of every transfer twice: when it begins, and when it has its outcome. */
  readonly onTransfer?: ((target: PeerRequest['target'], transfer: Transferred) => void) | undefined
  /** The address of this node's own peer door. */
  readonly address: string
  /** Gives what passes, from that place on, to those who follow this node, too; nobody does if missing. */
  readonly passing?: ((digest: Digest, start: number, length: number, source: ByteSource) => ByteSource) | undefined
}

export type TransferOptions = SearchOptions & Pick<PiecesOptions, 'stallTimeout'> & Partial<PiecesOptions>

/**
 * How long a client waits for a byte before no other peer is asked for it, in milliseconds. A node that gets no large packets
 * any more waits in vain for each of those that have the content, and upstream is there.
 */
const LONGEST_WAIT = 10_000
/** The same in stalls, where these are set to be long: that many peers are given a chance, whatever it takes. */
const LEAST_STALLS = 3
/**
 * Blobs up to this size are read whole and verified before their first byte is sent, as manifests are whatever their size: then
 * wrong content costs a question to another peer, not the pull. Configs are a few KiB; what is held is little even for many.
 */
const SMALL = 64 * 1024
/** Longest that a client waits until it is known which one of several peers gave wrong bytes, in milliseconds. */
const EXAMINATION = 10_000
/** Attempts that are told of one transfer: beyond some, which one it was says nothing more. */
const TOLD_ATTEMPTS = 8

/** Some content on its way from other nodes to this one: which peers are asked, which gave something, and how it ended. */
export class Transfer {
  readonly #dependencies: TransferDependencies
  readonly #options: TransferOptions & PiecesOptions
  readonly #target: PeerRequest['target']
  readonly #search: Search
  readonly #startedAt: number
  /** Addresses of peers that fell silent while they were followed. */
  readonly #avoided = new Set<string>()
  /** Addresses of those that were followed, and have failed since another one gave a byte. */
  readonly #lost = new Set<string>()
  /** Those that gave something by their addresses, in the order in which they began to. */
  readonly #given = new Map<string, Peer>()
  /** What is told of it. */
  readonly #told: Transferred & { readonly attempts: Attempt[] } = { startedAt: Date.now(), bytes: 0, attempts: [] }
  #pieces: Pieces | undefined
  /** Whether any of it was to come from a peer that was getting it. */
  #hasFollowed = false
  #resumes = 0

  constructor(dependencies: TransferDependencies, options: TransferOptions, target: PeerRequest['target']) {
    const { stallTimeout, longestWait = Math.max(LONGEST_WAIT, LEAST_STALLS * stallTimeout) } = options
    this.#dependencies = dependencies
    this.#options = { ...options, longestWait }
    this.#target = target
    this.#startedAt = dependencies.clock.now()
    const isUsed = (peer: Source) =>
      peer.isArriving === true
        ? target.kind !== 'blob' || this.#lost.has(addressOf(peer))
        : this.#pieces?.uses(peer) === true
    const suits = (peer: Source) => !isUsed(peer) && !this.#avoided.has(addressOf(peer))
    const ask: SearchDependencies['ask'] = (peer, request, stop) => this.#asked(peer, request, stop)
    this.#search = new Search({ ...dependencies, ask }, options, target, suits)
    dependencies.metrics.transfersRunning.inc()
    dependencies.onTransfer?.(target, this.#told)
  }

  /** What {@link Search.open} gives. */
  async open(request: Omit<PeerRequest, 'target'>, signal: AbortSignal, start = 0): Promise<Winner<Found> | undefined> {
    return await this.#search.open(request, signal, start)
  }

  /**
   * The bytes of a span, from the peers that have them. The transfer is over when they are.
   *
   * @param first gives the first of them: a peer that has them, or one that is getting them
   * @param verifier has seen the bytes before them; missing if they are not verified
   * @param before the peers that gave those
   * @returns the bytes, and which peers have given any of them so far
   */
  body(
    descriptor: Descriptor,
    span: Span,
    first?: BegunSpan | Source,
    verifier?: Verifier,
    before: readonly Peer[] = [],
  ): { readonly source: ByteSource; readonly givers: () => readonly Peer[] } {
    /** The peers that told the size of the content. */
    const tellers = first === undefined ? before : ['peer' in first ? first.peer : first]
    const givers = () => distinct([...before, ...this.#given.values()])
    const ended = async (ending: Ending) => {
      if (ending === 'corrupt' && this.#hasFollowed) this.#dependencies.flight.wrong(descriptor.digest)
      if (ending === 'corrupt') await this.#blame(descriptor, givers())
      this.finish(ending)
    }
    const pieces = (part: Span, begun?: BegunSpan | Peer) => this.#piecesOf(descriptor, part, tellers, begun)
    const supply = new Supply(
      {
        pieces,
        following: (part, parent) => this.#follow(descriptor, part, parent),
        source: (offset, isKnown, isFirst) => this.#source(offset, isKnown, isFirst),
        better: () => this.#dependencies.flight.better(descriptor.digest),
        gave: (parent, bytes) => {
          this.#lost.clear()
          this.gave(parent, bytes)
        },
        left: (parent, offset, error) => this.#left(descriptor.digest, parent, offset, error),
        clock: this.#dependencies.clock,
      },
      span,
      first === undefined || 'peer' in first ? pieces(span, first) : first,
      this.#options.longestWait,
    )
    const length = span.end - span.start
    const isSmall = verifier !== undefined && (length <= SMALL || this.#target.kind === 'manifest')
    const { passing, clock } = this.#dependencies
    const source = verified(isSmall ? inOneChunk(supply, length, clock) : supply, length, verifier, ended)
    const passed = this.#target.kind === 'blob' ? passing?.(descriptor.digest, span.start, length, source) : undefined
    return { source: passed ?? source, givers }
  }

  /** The bytes of a span from peers that have them. */
  #piecesOf(descriptor: Descriptor, span: Span, tellers: readonly Peer[], begun: BegunSpan | Peer | undefined): Pieces {
    const { metrics, log } = this.#dependencies
    const key = targetKey(this.#target)
    let next = begun !== undefined && 'host' in begun ? begun : undefined
    const transfer: PiecesTransfer = {
      ask: (peer, part, signal) => this.#ask(descriptor, tellers, peer, part, signal),
      candidate: async () => {
        const given = next
        next = undefined
        return given ?? (await this.#search.candidate(({ isArriving }) => isArriving !== true))
      },
      gave: (peer, bytes) => this.gave(peer, bytes),
      broke: (peer, error, offset, hasGiven) => this.#broke(peer, error, offset, hasGiven),
      slow: (peer, offset) => {
        this.#ended(peer, 'slow')
        metrics.transferBreaks.inc({ reason: 'slow' })
        log.info('peer is slow', { key, peer, offset })
      },
      resumed: (peer, offset) => this.#resumed(peer, offset),
    }
    const first = begun !== undefined && 'peer' in begun ? begun : undefined
    this.#pieces = new Pieces({ ...this.#dependencies, transfer }, this.#options, span, first)
    return this.#pieces
  }

  /** The bytes of a span from a peer that is getting them. */
  #follow(descriptor: Descriptor, span: Span, parent: Peer): Following {
    const { ask, flight, log, clock, address } = this.#dependencies
    const { digest } = descriptor
    const key = targetKey(this.#target)
    this.#hasFollowed = true
    log.info('following', { key, parent, offset: span.start })
    const attempt = this.#attempt(parent)
    if (attempt !== undefined) attempt.isArriving = true
    const request = { target: this.#target, method: 'GET', range: rangeOf(span), follower: address } as const
    return new Following(
      {
        open: async (signal) => {
          const answer = await ask(parent, request, signal)
          return bodyOf(answer, descriptor, span) ?? Promise.reject(new PieceRefusal())
        },
        state: (signal) => flight.state(parent, digest, signal),
        clock,
      },
      span.start,
    )
  }

  /** A peer is followed no longer. That it did not get all says nothing against it. */
  #left(digest: Digest, parent: Peer, offset: number, error: unknown): void {
    this.#lost.add(addressOf(parent))
    const isSilent = error instanceof PeerError && error.failure === 'silent'
    if (isSilent) {
      // Nor is it asked for what it may have by now.
      this.#avoided.add(addressOf(parent))
      this.#dependencies.known.of(parent).failed('silent')
    }
    this.#ended(parent, isSilent ? 'silent' : 'gone')
    this.#dependencies.flight.left(parent, digest, error instanceof PieceRefusal)
    this.#dependencies.log.info('parent lost', { key: targetKey(this.#target), parent, offset, error })
  }

  /** Who goes on from that place, see {@link SupplyDependencies.source}. */
  async #source(offset: number, isKnown: boolean, isFirst: boolean): Promise<Source | undefined> {
    for (;;) {
      const found = isKnown ? await this.#search.arriving() : await this.#search.candidate()
      if (found === undefined) return undefined
      const { isArriving, ...peer } = found
      const state = isArriving === true ? await this.#search.stateOf(found, offset, isFirst) : 'held'
      if (state === undefined) this.#lost.add(addressOf(peer))
      else {
        this.#resumed(peer, offset)
        return state === 'held' ? peer : found
      }
    }
  }

  #resumed(peer: Peer, offset: number): void {
    const { metrics, log } = this.#dependencies
    this.#resumes++
    metrics.transferResumes.inc()
    log.info('transfer goes on', { key: targetKey(this.#target), peer, offset })
  }

  /** A peer has given so many bytes, or told what was asked without any. */
  gave(peer: Peer, bytes: number): void {
    const { known, metrics } = this.#dependencies
    if (bytes > 0) known.of(peer).gave()
    this.#given.set(addressOf(peer), peer)
    this.#told.bytes += bytes
    const attempt = this.#attempt(peer)
    if (attempt !== undefined) Object.assign(attempt, { bytes: attempt.bytes + bytes, to: this.#age })
    metrics.transferBytes.inc(bytes)
  }

  /** Ends it: logged and counted once. */
  finish(outcome: TransferOutcome): void {
    if (this.#told.outcome !== undefined) return
    this.#told.outcome = outcome
    this.#search.close()
    const { metrics, log, onTransfer } = this.#dependencies
    const ms = this.#age
    const source = [...this.#given.keys()]
    const [{ bytes }, resumes, { attempts }] = [this.#told, this.#resumes, this.#search]
    metrics.transfersRunning.dec()
    metrics.transfers.inc({ outcome })
    metrics.transferSeconds.observe({ outcome }, ms / 1000)
    onTransfer?.(this.#target, this.#told)
    const tell = outcome === 'missing' && attempts === 0 ? log.debug : log.info
    const key = targetKey(this.#target)
    tell('transfer', { key, outcome, source, bytes, ms: Math.round(ms), attempts, resumes })
  }

  /** Milliseconds since it began. */
  get #age(): number {
    return this.#dependencies.clock.now() - this.#startedAt
  }

  /** What is told of a peer that is asked or gives; after a failure it is another attempt. `undefined` if nothing more is told. */
  #attempt(peer: Peer): Attempt | undefined {
    const { attempts } = this.#told
    const address = addressOf(peer)
    const last = attempts.findLast((attempt) => attempt.peer === address)
    if (last !== undefined && !isFailure(last.ended)) {
      delete last.ended
      return last
    }
    if (attempts.length >= TOLD_ATTEMPTS) return undefined
    const attempt: Attempt = { peer: address, from: this.#age, to: this.#age, bytes: 0 }
    attempts.push(attempt)
    return attempt
  }

  #ended(peer: Peer, why: NonNullable<Attempt['ended']>): void {
    const address = addressOf(peer)
    const attempt = this.#told.attempts.findLast((one) => one.peer === address)
    if (attempt !== undefined && attempt.ended === undefined) Object.assign(attempt, { ended: why, to: this.#age })
  }

  /** Asks a peer, and takes note of what comes of it. */
  async #asked(peer: Peer, request: PeerRequest, signal: AbortSignal): Promise<PeerHead | PeerRefusal> {
    const attempt = this.#attempt(peer)
    try {
      const answer = await this.#dependencies.ask(peer, request, signal)
      if (answer.kind === 'busy' || answer.kind === 'missing') this.#ended(peer, answer.kind)
      return answer
    } catch (error) {
      if (!signal.aborted && error instanceof PeerError) this.#ended(peer, error.failure)
      // A piece that is not wanted any more says nothing about a peer that gives others.
      else if (attempt?.bytes === 0) this.#ended(peer, 'late')
      throw error
    }
  }

  #broke(peer: Peer, error: PeerError, offset: number, hasGiven: boolean): void {
    const { known, metrics, log } = this.#dependencies
    this.#ended(peer, error.failure)
    if (hasGiven || error.failure === 'invalid') known.of(peer).failed(error.failure)
    else known.of(peer).withheld(error.failure)
    metrics.transferBreaks.inc({ reason: error.failure })
    log.warn('peer broke off', { key: targetKey(this.#target), peer, offset, error })
  }

  /**
   * Asks a peer for a span.
   *
   * @param told the peers that have told the content's size
   */
  async #ask(
    descriptor: Descriptor,
    told: readonly Peer[],
    peer: Peer,
    { start, end }: Span,
    signal: AbortSignal,
  ): Promise<ByteSource> {
    const { known, metrics, log } = this.#dependencies
    // A door gives the whole of a manifest.
    const isWhole = this.#target.kind === 'manifest'
    const span = isWhole ? { start: 0, end: descriptor.size } : { start, end }
    const range = isWhole ? undefined : rangeOf(span)
    const answer = await this.#search.ask(peer, { target: this.#target, method: 'GET', range }, signal)
    if (answer.kind === 'busy') throw new PieceRefusal(answer.retryAfterMs)
    if (answer.kind === 'missing') throw new PieceRefusal()
    const body = bodyOf(answer, descriptor, span)
    if (body !== undefined) return isWhole ? behind(body, start) : body
    const { size } = answer.kind === 'content' ? answer.descriptor : answer
    const isOther = answer.kind === 'content' && answer.descriptor.digest !== descriptor.digest
    if (!isOther && size !== descriptor.size) {
      // One of them is wrong, and it cannot be said which: this transfer keeps to the size that its client knows, and the next
      // ones do not begin with the peers that told it, for a while.
      for (const suspect of told) known.wrongContent(suspect, digestKey(descriptor.digest), true)
      metrics.transferBreaks.inc({ reason: 'invalid' })
      log.warn('peers disagree', { key: targetKey(this.#target), size: descriptor.size, told, peer })
    }
    throw new PieceRefusal()
  }

  /**
   * Content is not that of its digest. It is held against a peer that gave all of it. If several gave parts, all of them are
   * suspects until one is found that gives it right.
   */
  async #blame(descriptor: Descriptor, givers: readonly Peer[]): Promise<void> {
    const { known, metrics, log } = this.#dependencies
    const isSuspect = givers.length > 1
    for (const peer of givers) {
      // A tag can be asked for again without its digest being known.
      for (const key of [digestKey(descriptor.digest), targetKey(this.#target)])
        known.wrongContent(peer, key, isSuspect)
    }
    metrics.verificationFailures.inc({ kind: this.#target.kind })
    log.warn('wrong content', { digest: descriptor.digest, peers: givers })
    if (isSuspect) await bounded(EXAMINATION, undefined, (signal) => this.#examine(descriptor, givers, signal))
  }

  /** Reads content from each peer alone, until one gives it right: the next request will ask that one. */
  async #examine(descriptor: Descriptor, suspects: readonly Peer[], signal: AbortSignal): Promise<void> {
    const { known, log } = this.#dependencies
    const key = digestKey(descriptor.digest)
    for (const peer of suspects) {
      const isRight = await this.#isRight(descriptor, peer, signal)
      if (isRight === undefined) continue
      log.info('peer examined', { key, peer, isRight })
      if (!isRight) known.wrongContent(peer, key)
      else return known.rightContent(peer, key)
    }
  }

  /** Whether the peer has content of that digest; `undefined` if it does not give it. */
  async #isRight({ digest }: Descriptor, peer: Peer, signal: AbortSignal): Promise<boolean | undefined> {
    try {
      const answer = await this.#search.ask(peer, { target: this.#target, method: 'GET' }, signal)
      if (answer.kind !== 'content') return undefined
      const { body } = answer
      using _ = onAbort(signal, () => void body.cancel())
      const verifier = new Verifier(digest)
      for (let chunk = await body.next(); chunk !== undefined; chunk = await body.next()) verifier.update(chunk)
      verifier.finish()
      return true
    } catch (error) {
      if (error instanceof VerificationError) return false
      if (error instanceof PeerError) return undefined
      throw error
    }
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

function isFailure(ended: Attempt['ended']): boolean {
  return ended === 'unreachable' || ended === 'silent' || ended === 'invalid' || ended === 'gone'
}

function distinct(peers: readonly Peer[]): Peer[] {
  return [...new Map(peers.map((peer) => [addressOf(peer), peer])).values()]
}
