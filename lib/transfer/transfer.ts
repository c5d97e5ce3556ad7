import type { Source } from '../flight/flight.ts'
import type { Attempt, TransferOutcome, Transferred } from '../observe/activity.ts'
import type { Descriptor, Digest } from '../oci/digest.ts'
import { digestKey, type Key, targetKey } from '../oci/key.ts'
import { PeerError } from '../peers/error.ts'
import { bounded, onAbort } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Peer } from '../swarm/router.ts'
import type { PeerHead, PeerRefusal, PeerRequest } from './ask.ts'
import type { PiecesDependencies, PiecesOptions, PiecesTold } from './pieces.ts'
import { createSearch, flightKey, type Search, type SearchDependencies, type SearchOptions } from './search.ts'
import { VerificationError, Verifier } from './verify.ts'

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
/** Longest that a client waits until it is known which one of several peers gave wrong bytes, in stalls: 10 s by default. */
const EXAMINATION = 5
/** Attempts that are told of one transfer: beyond some, which one it was says nothing more. */
const TOLD_ATTEMPTS = 8

/** Some content on its way from other nodes to this one: which peers are asked, which gave something, and how it ended. */
export class Transfer implements PiecesTold {
  readonly dependencies: TransferDependencies
  readonly options: TransferOptions & PiecesOptions
  readonly target: PeerRequest['target']
  readonly key: Key
  readonly search: Search
  /** Whether a peer that may have it, or be getting it, is of no use at this moment. */
  excludes: (peer: Source) => boolean = () => false
  readonly #startedAt: number
  /** Those that gave something by their addresses, in the order in which they began to. */
  readonly #given = new Map<string, Source>()
  /** What is told of it. */
  readonly #told: Transferred & { readonly attempts: Attempt[] } = { startedAt: Date.now(), bytes: 0, attempts: [] }
  #resumes = 0

  constructor(dependencies: TransferDependencies, options: TransferOptions, target: PeerRequest['target']) {
    const { stallTimeout, longestWait = Math.max(LONGEST_WAIT, LEAST_STALLS * stallTimeout) } = options
    this.dependencies = dependencies
    this.options = { ...options, longestWait }
    this.target = target
    this.key = targetKey(target)
    this.#startedAt = dependencies.clock.now()
    const suits = (peer: Source) => (peer.isArriving !== true || target.kind === 'blob') && !this.excludes(peer)
    this.search = createSearch({ ...dependencies, ask: this.ask.bind(this) }, options, target, suits)
    dependencies.metrics.transfersRunning.inc()
    dependencies.onTransfer?.(target, this.#told)
  }

  /** Those that gave something, in the order in which they began to. */
  get givers(): readonly Source[] {
    return [...this.#given.values()]
  }

  resumed(peer: Peer, offset: number): void {
    const { metrics, log } = this.dependencies
    this.#resumes++
    metrics.transferResumes.inc()
    log.info('transfer goes on', { key: this.key, peer, offset })
  }

  /** A peer has given so many bytes, or told what was asked without any. */
  gave(peer: Peer, bytes: number): void {
    const { known, metrics } = this.dependencies
    if (bytes > 0) known.of(peer).gave()
    this.#given.set(addressOf(peer), peer)
    this.#told.bytes += bytes
    const attempt = this.attempt(peer)
    if (attempt !== undefined) Object.assign(attempt, { bytes: attempt.bytes + bytes, to: this.#age })
    metrics.transferBytes.inc(bytes)
  }

  /** Ends it: logged and counted once. */
  finish(outcome: TransferOutcome): void {
    if (this.#told.outcome !== undefined) return
    this.#told.outcome = outcome
    this.search.close()
    const { metrics, log, onTransfer } = this.dependencies
    const ms = this.#age
    const source = [...this.#given.keys()]
    const [{ bytes }, resumes, { attempts }] = [this.#told, this.#resumes, this.search]
    metrics.transfersRunning.dec()
    metrics.transfers.inc({ outcome })
    metrics.transferSeconds.observe({ outcome }, ms / 1000)
    onTransfer?.(this.target, this.#told)
    const tell = outcome === 'missing' && attempts === 0 ? log.debug : log.info
    tell('transfer', { key: this.key, outcome, source, bytes, ms: Math.round(ms), attempts, resumes })
  }

  /** Milliseconds since it began. */
  get #age(): number {
    return this.dependencies.clock.now() - this.#startedAt
  }

  /** What is told of a peer that is asked or gives; after a failure it is another attempt. `undefined` if nothing more is told. */
  attempt(peer: Peer): Attempt | undefined {
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

  ended(peer: Peer, why: NonNullable<Attempt['ended']>): void {
    const address = addressOf(peer)
    const attempt = this.#told.attempts.findLast((one) => one.peer === address)
    if (attempt !== undefined && attempt.ended === undefined) Object.assign(attempt, { ended: why, to: this.#age })
  }

  /**
   * Asks a peer. What it says, and how it fails, goes into what is known of it, into the log, and into what is told.
   *
   * @throws {PeerError}
   */
  async ask(peer: Peer, request: PeerRequest, signal: AbortSignal): Promise<PeerHead | PeerRefusal> {
    const { ask, known, metrics, log, clock } = this.dependencies
    const { key } = this
    const attempt = this.attempt(peer)
    const startedAt = clock.now()
    try {
      const answer = await ask(peer, request, signal)
      metrics.peerRequests.inc({ outcome: answer.kind })
      if (answer.kind === 'busy') known.of(peer).busy(answer.retryAfterMs)
      else known.of(peer).answered(clock.now() - startedAt)
      if (answer.kind === 'busy' || answer.kind === 'missing') {
        this.ended(peer, answer.kind)
        log.debug('peer gives nothing', { key, peer, why: answer.kind })
      }
      return answer
    } catch (error) {
      if (!signal.aborted && error instanceof PeerError) {
        this.ended(peer, error.failure)
        known.of(peer).failed(error.failure)
        metrics.peerRequests.inc({ outcome: error.failure })
        log.warn('peer failed', { key, peer, error })
      }
      // A piece that is not wanted any more says nothing about a peer that gives others.
      else if (attempt?.bytes === 0) this.ended(peer, 'late')
      throw error
    }
  }

  broke(peer: Peer, error: PeerError, offset: number, hasGiven: boolean): void {
    const { known, metrics, log } = this.dependencies
    this.ended(peer, error.failure)
    if (hasGiven || error.failure === 'invalid') known.of(peer).failed(error.failure)
    else known.of(peer).withheld(error.failure)
    metrics.transferBreaks.inc({ reason: error.failure })
    log.warn('peer broke off', { key: this.key, peer, offset, error })
  }

  slow(peer: Peer, offset: number): void {
    const { metrics, log } = this.dependencies
    this.ended(peer, 'slow')
    metrics.transferBreaks.inc({ reason: 'slow' })
    log.info('peer is slow', { key: this.key, peer, offset })
  }

  /**
   * Content is not that of its digest. It is held against a peer that gave all of it. If several gave parts, all of them are
   * suspects until one is found that gives it right.
   */
  async blame(descriptor: Descriptor, givers: readonly Source[]): Promise<void> {
    const { known, metrics, log } = this.dependencies
    const isSuspect = givers.length > 1
    const key = digestKey(descriptor.digest)
    for (const peer of givers) {
      // A tag can be asked for again without its digest being known.
      const keys = peer.isArriving === true ? [flightKey(key)] : [key, this.key]
      for (const one of keys) known.wrongContent(peer, one, isSuspect)
    }
    metrics.verificationFailures.inc({ kind: this.target.kind })
    log.warn('wrong content', { digest: descriptor.digest, peers: givers })
    if (!isSuspect) return
    const bound = EXAMINATION * this.options.stallTimeout
    await bounded(bound, undefined, (signal) => this.#examine(descriptor, givers, signal))
  }

  /** Reads content from each peer alone, until one gives it right: the next request will ask that one. */
  async #examine(descriptor: Descriptor, suspects: readonly Peer[], signal: AbortSignal): Promise<void> {
    const { known, log } = this.dependencies
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
      const answer = await this.ask(peer, { target: this.target, method: 'GET' }, signal)
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

function isFailure(ended: Attempt['ended']): boolean {
  return ended === 'unreachable' || ended === 'silent' || ended === 'invalid' || ended === 'gone'
}
