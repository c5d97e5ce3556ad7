import type { Transferred } from '../observe/activity.ts'
import type { Descriptor } from '../oci/descriptor.ts'
import { digestKey, targetKey } from '../oci/key.ts'
import type { PeerError } from '../peers/error.ts'
import { patientClock } from '../peers/patient-clock.ts'
import { addressOf } from '../platform/address.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Clock } from '../platform/clock.ts'
import type { Peer } from '../swarm/router.ts'
import type { PeerHead, PeerRequest } from './ask.ts'
import type { Winner } from './race.ts'
import { ResumingSource, type WatchedBody } from './resume.ts'
import { Search, type SearchDependencies, type SearchOptions } from './search.ts'
import { TransferReport } from './transfer-report.ts'
import { VerificationError } from './verify.ts'
import { Watchdog, type WatchdogOptions } from './watchdog.ts'

export interface TransferOptions extends SearchOptions, WatchdogOptions {
  /** Milliseconds for which a client waits for a byte before nobody else is asked for it. */
  readonly longestWait?: number
}

/** A peer that answered with content. */
export interface Opened {
  readonly peer: Peer
  readonly head: PeerHead & { readonly kind: 'content' }
}

/**
 * Longest that a body may stand still while its peer gives bytes to other requests of this node, in milliseconds. Who is
 * that slow is asked by so many that all of them together are what it can do; beyond it, this one is forgotten.
 */
const LONGEST_STALL = 30_000
/**
 * How long a client waits for a byte before nobody else is asked for it, in milliseconds. A node that gets no large packets
 * any more loses the time of a stall to each of those that have the content, and upstream is there.
 */
const LONGEST_WAIT = 10_000
/** The same in stalls, where these are set to be long: that many peers are given a chance, whatever it takes. */
const LEAST_STALLS = 3
/** Bytes after which peers are looked for anew as often as at the beginning: a long transfer may be in trouble more often. */
const PROGRESS = 1024 * 1024

/** One piece of content on its way from other nodes to this one: who is asked, who gave what, and how it ended. */
export class Transfer {
  readonly search: Search
  readonly #dependencies: SearchDependencies
  readonly #options: TransferOptions
  readonly #target: PeerRequest['target']
  readonly #clock: Clock
  readonly #report: TransferReport
  /** Who told the size of the content. */
  #tellers: readonly Peer[] = []
  #reopenedAt = 0
  /** Since when its client waits for a byte. */
  #waitsSince: number

  constructor(dependencies: SearchDependencies, options: TransferOptions, target: PeerRequest['target']) {
    this.#dependencies = dependencies
    this.#options = options
    this.#target = target
    this.#clock = dependencies.clock ?? patientClock
    this.#waitsSince = this.#clock.now()
    this.#report = new TransferReport(dependencies, target, this.#clock)
    this.search = new Search(dependencies, options, target)
  }

  /** What {@link Search.open} gives, unless the client has waited for too long and there is nobody to be replaced. */
  async open(
    request: Omit<PeerRequest, 'target'>,
    signal: AbortSignal,
    isReplacement = false,
  ): Promise<Winner<PeerHead> | undefined> {
    const { longestWait = LONGEST_WAIT, stallTimeout } = this.#options
    const waited = this.#clock.now() - this.#waitsSince
    if (!isReplacement && waited >= Math.max(longestWait, LEAST_STALLS * stallTimeout)) return undefined
    return await this.search.open(request, signal, isReplacement)
  }

  /** The body of a winner, as it comes from that peer alone. */
  watch({ peer, head }: Opened): WatchedBody {
    const { known, clock } = this.#dependencies
    return { peer, body: head.body, watchdog: new Watchdog(head.body, this.#options, () => known.usualRate(), clock) }
  }

  /** The body of a winner, continued from other peers when it breaks off. */
  resuming(opened: Opened): ResumingSource {
    const { descriptor, range } = opened.head
    const { start, end } = range ?? { start: 0, end: descriptor.size - 1 }
    this.#tellers = [opened.peer]
    return this.#resumingFrom(descriptor, this.watch(opened), start, end + 1)
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
    const { known, metrics, log } = this.#dependencies
    const key = targetKey(this.#target)
    return new ResumingSource(
      {
        reopen: (offset, signal, isReplacement) => this.#reopen(descriptor, offset, end, signal, isReplacement),
        isOnlySlow: ({ peer }, { silentMs, since }) => silentMs < LONGEST_STALL && known.isGivingSince(peer, since),
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
          this.#report.resumed()
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
      this.#dependencies.known.moved(peer, measured.bytes, measured.ms)
    }
  }

  /** Takes note of a body that broke off. */
  broke({ peer, watchdog }: WatchedBody, { failure }: PeerError): void {
    const { known } = this.#dependencies
    if (watchdog.hasGiven || failure === 'invalid') known.failed(peer, failure)
    else known.withheld(peer, failure)
    this.#dependencies.metrics.transferBreaks.inc({ reason: failure })
  }

  /** Takes note of bytes that a peer gave. */
  took(bytes: number, from: readonly Peer[]): void {
    this.#report.took(bytes)
    this.#report.gave(from)
  }

  /**
   * Takes note of content that is not that of its digest. One peer that gave all of it is put aside for that digest. If
   * several gave parts, at least one of them is at fault and nobody can say which: each is put aside for a short time.
   */
  blame(descriptor: Descriptor, peers: readonly Peer[]): void {
    const { known, metrics, log } = this.#dependencies
    const givers = [...new Map(peers.map((peer) => [addressOf(peer), peer])).values()]
    for (const peer of givers) {
      known.wrongContent(peer, digestKey(descriptor.digest), givers.length > 1)
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
        this.#waitsSince = this.#clock.now()
        try {
          const chunk = await source.next()
          if (chunk === undefined) return undefined
          missing -= chunk.length
          this.#report.took(chunk.length)
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
  finish(outcome: Transferred['outcome']): void {
    this.#report.finish(outcome, this.search.attempts)
  }

  #finishWith(resuming: ResumingSource, outcome: Transferred['outcome']): void {
    this.#report.gave(resuming.contributors)
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
      const winner = await this.open({ method: 'GET', range }, signal, isReplacement)
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
    const { known, metrics, log } = this.#dependencies
    this.search.avoid(peer)
    for (const suspect of this.#tellers) known.wrongContent(suspect, digestKey(digest), true)
    metrics.transferBreaks.inc({ reason: 'invalid' })
    log.warn('peers disagree', { key: targetKey(this.#target), size, told: this.#tellers, peer })
  }
}
