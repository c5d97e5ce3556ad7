import type { Transferred } from '../observe/activity.ts'
import type { Descriptor } from '../oci/descriptor.ts'
import { targetKey } from '../oci/key.ts'
import { lengthOf } from '../oci/range.ts'
import type { ByteSource } from '../runtime/byte-source.ts'
import { addressOf, type Peer } from '../swarm/router.ts'
import type { PeerHead, PeerRequest } from './ask.ts'
import { patientClock } from './clock.ts'
import type { PeerError } from './peer-error.ts'
import { ResumingSource, type WatchedBody } from './resume.ts'
import { Search, type SearchDependencies, type SearchOptions } from './search.ts'
import { VerificationError } from './verify.ts'
import { Watchdog, type WatchdogOptions } from './watchdog.ts'

export type TransferOptions = SearchOptions & WatchdogOptions

/** A peer that answered with content. */
export interface Opened {
  readonly peer: Peer
  readonly head: PeerHead & { readonly kind: 'content' }
}

type Outcome = Transferred['outcome']

/**
 * Longest that a body may stand still while its peer gives bytes to other requests of this node, in milliseconds. Who is
 * that slow is asked by so many that all of them together are what it can do; beyond it, this one is forgotten.
 */
const LONGEST_STALL = 30_000
/** Bytes after which peers are looked for anew as often as at the beginning: a long transfer may be in trouble more often. */
const PROGRESS = 1024 * 1024

/** One piece of content on its way from other nodes to this one: who is asked, who gave what, and how it ended. */
export class Transfer {
  readonly search: Search
  readonly #dependencies: SearchDependencies
  readonly #options: TransferOptions
  readonly #target: PeerRequest['target']
  readonly #startedAt: number
  readonly #sources = new Map<string, Peer>()
  /** Who told the size of the content. */
  #tellers: readonly Peer[] = []
  #bytes = 0
  #resumes = 0
  #reopenedAt = 0
  #finished = false

  constructor(dependencies: SearchDependencies, options: TransferOptions, target: PeerRequest['target']) {
    this.#dependencies = dependencies
    this.#options = options
    this.#target = target
    this.#startedAt = this.#now
    this.search = new Search(dependencies, options, target)
    dependencies.metrics.transfersRunning.inc()
  }

  /** The body of a winner, as it comes from that peer alone. */
  watch({ peer, head }: Opened): WatchedBody {
    const { health, clock } = this.#dependencies
    return { peer, body: head.body, watchdog: new Watchdog(head.body, this.#options, () => health.usualRate(), clock) }
  }

  /** The body of a winner, continued from other peers when it breaks off. */
  resuming(opened: Opened): ResumingSource {
    const { descriptor, range } = opened.head
    const start = range?.start ?? 0
    this.#tellers = [opened.peer]
    return this.#resumingFrom(descriptor, this.watch(opened), start, start + lengthOf(range ?? wholeOf(descriptor)))
  }

  /**
   * The bytes from `start` to `end` of content that is known already, from whoever has them.
   *
   * @param tellers by whom it is known
   */
  fromAnybody(descriptor: Descriptor, start: number, end: number, tellers: readonly Peer[]): ResumingSource {
    this.#tellers = tellers
    return this.#resumingFrom(descriptor, undefined, start, end)
  }

  #resumingFrom(descriptor: Descriptor, first: WatchedBody | undefined, start: number, end: number): ResumingSource {
    const { health, metrics, log } = this.#dependencies
    const key = targetKey(this.#target)
    return new ResumingSource(
      {
        reopen: (offset, signal, isReplacement) => this.#reopen(descriptor, offset, end, signal, isReplacement),
        isOnlySlow: ({ peer }, { silentMs, since }) => silentMs < LONGEST_STALL && health.isGivingSince(peer, since),
        onBreak: (from, error, offset) => {
          this.broke(from, error)
          log.warn('peer broke off', { key, peer: from.peer, offset, error })
        },
        onSlow: (from, offset) => {
          this.search.isSlow(from.peer)
          metrics.transferBreaks.inc({ reason: 'slow' })
          log.info('peer is slow', { key, peer: from.peer, offset })
        },
        onResume: (to, offset) => {
          if (offset === start) return
          this.#resumes++
          metrics.transferResumes.inc()
          log.info('transfer goes on', { key, peer: to.peer, offset })
        },
        onDone: (from) => this.moved(from),
      },
      first,
      start,
      end,
    )
  }

  /** Takes note of how fast a body came. */
  moved({ peer, watchdog: { measured } }: WatchedBody): void {
    if (measured !== undefined && measured.bytes > 0) {
      this.#dependencies.health.moved(peer, measured.bytes, measured.ms)
    }
  }

  /** Takes note of a body that broke off. */
  broke({ peer, watchdog }: WatchedBody, { failure }: PeerError): void {
    const { health } = this.#dependencies
    if (watchdog.hasGiven || failure === 'invalid') health.failed(peer, failure)
    else health.withheld(peer, failure)
    this.#dependencies.metrics.transferBreaks.inc({ reason: failure })
  }

  /** Takes note of bytes that a peer gave. */
  took(bytes: number, from: readonly Peer[]): void {
    this.#bytes += bytes
    this.#dependencies.metrics.transferBytes.inc(bytes)
    for (const peer of from) this.#sources.set(peer.id, peer)
  }

  /**
   * Takes note of content that is not that of its digest. One peer that gave all of it is put aside for that digest. If
   * several gave parts, at least one of them is at fault and nobody can say which: each is put aside for a short time.
   */
  blame(descriptor: Descriptor, peers: readonly Peer[]): void {
    const { health, metrics, log } = this.#dependencies
    const givers = [...new Map(peers.map((peer) => [peer.id, peer])).values()]
    for (const peer of givers) {
      health.wrongContent(peer, descriptor.digest, givers.length > 1)
      // A tag can be asked for again without its digest being known.
      this.search.avoid(peer)
    }
    metrics.verificationFailures.inc({ kind: this.#target.kind })
    log.warn('wrong content', { digest: descriptor.digest, peers: givers })
  }

  /**
   * The source, with what comes of it taken note of; the transfer is over when it is.
   *
   * @param before who gave what is verified together with it, but came before it
   */
  recorded(
    source: ByteSource,
    resuming: ResumingSource,
    descriptor: Descriptor,
    length: number,
    before: readonly Peer[] = [],
  ): ByteSource {
    let missing = length
    if (length === 0) this.finish('complete')
    return {
      next: async () => {
        try {
          const chunk = await source.next()
          if (chunk === undefined) return undefined
          missing -= chunk.length
          this.#bytes += chunk.length
          this.#dependencies.metrics.transferBytes.inc(chunk.length)
          if (missing <= 0) this.#finishWith(resuming, 'complete')
          return chunk
        } catch (error) {
          if (error instanceof VerificationError) this.blame(descriptor, [...before, ...resuming.contributors])
          this.#finishWith(resuming, error instanceof VerificationError ? 'corrupt' : 'failed')
          throw error
        }
      },
      cancel: async () => {
        this.#finishWith(resuming, 'cancelled')
        await source.cancel()
      },
    }
  }

  /** Ends it: logged and counted once. */
  finish(outcome: Outcome): void {
    if (this.#finished) return
    this.#finished = true
    const { metrics, log, onTransfer } = this.#dependencies
    const ms = this.#now - this.#startedAt
    const source = [...this.#sources.values()].map(addressOf)
    const { attempts } = this.search
    metrics.transfersRunning.dec()
    metrics.transfers.inc({ outcome })
    metrics.transferSeconds.observe({ outcome }, ms / 1000)
    const [bytes, resumes] = [this.#bytes, this.#resumes]
    onTransfer?.({ target: this.#target, outcome, peers: source, bytes, attempts, resumes })
    const tell = outcome === 'missing' && attempts === 0 ? log.debug : log.info
    tell('transfer', {
      key: targetKey(this.#target),
      outcome,
      source,
      bytes,
      ms: Math.round(ms),
      attempts,
      resumes,
    })
  }

  #finishWith(resuming: ResumingSource, outcome: Outcome): void {
    for (const peer of resuming.contributors) this.#sources.set(peer.id, peer)
    this.finish(outcome)
  }

  /** The rest from another peer, if it is of the same content. */
  async #reopen(
    descriptor: Descriptor,
    offset: number,
    end: number,
    signal: AbortSignal,
    isReplacement: boolean,
  ): Promise<WatchedBody | undefined> {
    if (offset >= this.#reopenedAt + PROGRESS) this.search.restart()
    this.#reopenedAt = offset
    const range = offset === 0 && end === descriptor.size ? undefined : `bytes=${offset}-${end - 1}`
    for (;;) {
      const winner = await this.search.open({ method: 'GET', range }, signal, isReplacement)
      if (winner === undefined) return undefined
      const { peer, value: head } = winner
      if (head.kind === 'content' && head.descriptor.size === descriptor.size) return this.watch({ peer, head })
      if (head.kind === 'content') await head.body.cancel()
      this.#disagree(descriptor, peer)
    }
  }

  /**
   * Takes note of a peer that tells another size than who was first. One of them is wrong, and nobody can say which: this
   * transfer keeps to what it has told its client, and the next ones do not begin with that one, for a while.
   */
  #disagree({ digest, size }: Descriptor, peer: Peer): void {
    const { health, metrics, log } = this.#dependencies
    this.search.avoid(peer)
    for (const suspect of this.#tellers) health.wrongContent(suspect, digest, true)
    metrics.transferBreaks.inc({ reason: 'invalid' })
    log.warn('peers disagree', { key: targetKey(this.#target), size, told: this.#tellers, peer })
  }

  get #now(): number {
    return (this.#dependencies.clock ?? patientClock).now()
  }
}

function wholeOf({ size }: Descriptor) {
  return { start: 0, end: size - 1 }
}
