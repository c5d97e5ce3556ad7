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
import { createSearch, flightKey, type Search, type SearchDependencies, type SearchOptions } from './search.ts'
import { VerificationError, Verifier } from './verify.ts'

export interface TransferDependencies extends SearchDependencies {
  /** How many bytes may be asked for ahead of the client now: a share of some memory, which need not be an integer. */
  readonly ahead: () => number
  /** Called twice for every transfer: when it begins, and when it has its outcome. */
  readonly onTransfer?: ((target: PeerRequest['target'], transfer: Transferred) => void) | undefined
  /** The address of this node's own peer door. */
  readonly address: string
  /** Passes the bytes, from that offset on, to nodes that follow this one; if missing, none do. */
  readonly passing?: ((digest: Digest, start: number, length: number, source: ByteSource) => ByteSource) | undefined
}

export interface TransferOptions extends SearchOptions {
  /** Milliseconds for which a peer may be silent if no other one can take its place. */
  readonly stallTimeout: number
  /** Milliseconds after which no other peer is asked for a byte that the client waits for. */
  readonly longestWait?: number
}

/**
 * Milliseconds after which no other peer is asked for a byte that the client waits for. A node that no longer gets large
 * packets would wait in vain for each peer that has the content, and upstream is there.
 */
const LONGEST_WAIT = 10_000
/** The same in stalls, if the stall timeout is long: this many peers get a chance in any case. */
const LEAST_STALLS = 3
/** How many stalls a client waits at most until it is known which one of several peers gave wrong bytes: 10 s by default. */
const EXAMINATION = 5
/** How many attempts of one transfer are reported. More of them would tell nothing new. */
const TOLD_ATTEMPTS = 8

/** Some content on its way from other nodes to this one: which peers were asked, which sent something, and how it ended. */
export class Transfer {
  readonly dependencies: TransferDependencies
  readonly options: Required<Pick<TransferOptions, 'stallTimeout' | 'longestWait'>>
  readonly target: PeerRequest['target']
  readonly key: Key
  readonly search: Search
  /** Whether a peer that may have the content, or be getting it, is of no use now. */
  excludes: (peer: Source) => boolean = () => false
  readonly #startedAt: number
  /** The peers that gave something, by their addresses, in the order in which they began. */
  readonly #given = new Map<string, Source>()
  /** The report of the transfer. */
  readonly #told: Transferred & { readonly attempts: Attempt[] } = { startedAt: Date.now(), bytes: 0, attempts: [] }
  #resumes = 0

  constructor(dependencies: TransferDependencies, options: TransferOptions, target: PeerRequest['target']) {
    const { stallTimeout, longestWait = Math.max(LONGEST_WAIT, LEAST_STALLS * stallTimeout) } = options
    this.dependencies = dependencies
    this.options = { stallTimeout, longestWait }
    this.target = target
    this.key = targetKey(target)
    this.#startedAt = dependencies.clock.now()
    const suits = (peer: Source) => (peer.isArriving !== true || target.kind === 'blob') && !this.excludes(peer)
    this.search = createSearch({ ...dependencies, ask: this.ask.bind(this) }, options, target, suits)
    dependencies.metrics.transfersRunning.inc()
    dependencies.onTransfer?.(target, this.#told)
  }

  /** The peers that gave something, in the order in which they began. */
  get givers(): readonly Source[] {
    return [...this.#given.values()]
  }

  /** Call this when a peer continues at that offset what another one has begun. */
  resumed(peer: Peer, offset: number): void {
    const { metrics, log } = this.dependencies
    this.#resumes++
    metrics.transferResumes.inc()
    log.info('transfer goes on', { key: this.key, peer, offset })
  }

  /** Call this when a peer has sent bytes, or an answer without any. */
  gave(peer: Peer, bytes: number): void {
    const { known, metrics } = this.dependencies
    if (bytes > 0) known.of(peer).gave()
    this.#given.set(addressOf(peer), peer)
    this.#told.bytes += bytes
    const attempt = this.attempt(peer)
    if (attempt !== undefined) Object.assign(attempt, { bytes: attempt.bytes + bytes, to: this.#age })
    metrics.transferBytes.inc(bytes)
  }

  /** Ends the transfer. It is logged and counted only once. */
  finish(outcome: TransferOutcome): void {
    if (this.#told.outcome !== undefined) return
    this.#told.outcome = outcome
    this.search.close()
    const { metrics, log, onTransfer } = this.dependencies
    const ms = this.#age
    const source = [...this.#given.keys()]
    const { bytes, attempts } = this.#told
    metrics.transfersRunning.inc(-1)
    metrics.transfers.inc({ outcome })
    metrics.transferSeconds.observe({ outcome }, ms / 1000)
    onTransfer?.(this.target, this.#told)
    const tell = outcome === 'missing' && attempts.length === 0 ? log.debug : log.info
    const told = { key: this.key, outcome, source, bytes, ms: Math.round(ms) }
    tell('transfer', { ...told, attempts: attempts.length, resumes: this.#resumes })
  }

  /** Milliseconds since the transfer began. */
  get #age(): number {
    return this.dependencies.clock.now() - this.#startedAt
  }

  /** The attempt that reports a peer's answer; a new one after a failure. `undefined` if no more attempts are reported. */
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
   * Asks a peer. Its answer or failure goes into its standing, the log, and the report.
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
      // If a piece is no longer wanted, that says nothing about a peer that sends others.
      else if (attempt?.bytes === 0) this.ended(peer, 'late')
      throw error
    }
  }

  /** Call this if a peer's body broke off at that offset, or never began. */
  broke(peer: Peer, error: PeerError, offset: number, hasGiven: boolean): void {
    const { known, metrics, log } = this.dependencies
    this.ended(peer, error.failure)
    if (hasGiven || error.failure === 'invalid') known.of(peer).failed(error.failure)
    else known.of(peer).withheld(error.failure)
    metrics.transferBreaks.inc({ reason: error.failure })
    log.warn('peer broke off', { key: this.key, peer, offset, error })
  }

  /** Call this if a peer keeps the client waiting. */
  slow(peer: Peer, offset: number): void {
    const { metrics, log } = this.dependencies
    this.ended(peer, 'slow')
    metrics.transferBreaks.inc({ reason: 'slow' })
    log.info('peer is slow', { key: this.key, peer, offset })
  }

  /**
   * Call this if content does not match its digest. If one peer gave all of it, that peer is to blame. If several gave parts,
   * all of them are suspects until one is found that gives the right content.
   */
  async blame(descriptor: Descriptor, givers: readonly Source[]): Promise<void> {
    const { known, metrics, log } = this.dependencies
    const isSuspect = givers.length > 1
    const key = digestKey(descriptor.digest)
    for (const peer of givers) {
      // The tag, too, because it can be asked for again without its digest.
      const keys = peer.isArriving === true ? [flightKey(key)] : [key, this.key]
      for (const one of keys) known.wrongContent(peer, one, isSuspect)
    }
    metrics.verificationFailures.inc({ kind: this.target.kind })
    log.warn('wrong content', { digest: descriptor.digest, peers: givers })
    if (!isSuspect) return
    const bound = EXAMINATION * this.options.stallTimeout
    await bounded(bound, undefined, (signal) => this.#examine(descriptor, givers, signal))
  }

  /** Reads the content from one peer after another, until one gives it right. The next request will ask that one. */
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

  /** Whether the peer's content matches the digest; `undefined` if it does not send the content. */
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
