import type { Logger } from '../observe/log.ts'
import { type Digest, isDigest } from '../oci/digest.ts'
import { digestKey, type Key } from '../oci/key.ts'
import { onAbort } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import type { Clock } from '../platform/clock.ts'
import type { ContentStore } from '../store/store.ts'
import type { Members } from '../swarm/members.ts'
import type { Peer, Router } from '../swarm/router.ts'
import { type Download, Downloads } from './downloads.ts'
import type { Flight, Source, SourceState } from './flight.ts'
import { Keeper } from './keeper.ts'
import { type Answer, encode, type News, type Question, type Ruling, readAnswer, readQuestion } from './message.ts'
import type { FlightFigures, FlightMetrics } from './metrics.ts'

export interface FlightDependencies {
  readonly members: Members
  readonly router: Pick<Router, 'lookup'>
  readonly store: Pick<ContentStore, 'arriving'>
  /** Whether this node offers it to others. */
  readonly holds: (key: Key) => boolean
  /** This node, as others know it. */
  readonly self: Peer
  readonly clock: Clock
  readonly log: Logger
  readonly metrics: FlightMetrics
}

export interface FlightOptions {
  /** Milliseconds for which a lookup may look for holders. */
  readonly lookupTimeout: number
}

/** How many members keep a digest: the second is asked when the first does not answer. */
const KEEPERS = 2
/** Milliseconds for which a keeper is waited for. */
const KEEPER_PATIENCE = 300
/** Milliseconds of a lookup that has found nobody, after which the keepers are asked as well. */
const HEAD_START = 10
/** Milliseconds for which a client may have begun to write nothing: containerd makes its files before it asks. */
const ARRIVAL_PATIENCE = 50
/**
 * How often a peer that does not know the size yet is asked at most, and after how many milliseconds: its containerd has just
 * made its files.
 */
const SIZE_LOOKS = 6
const SIZE_INTERVAL = 50
/** Milliseconds that {@link Flight.sources} takes at most beyond a lookup. */
export const CLAIM_TIME = HEAD_START + ARRIVAL_PATIENCE + KEEPERS * KEEPER_PATIENCE

/**
 * Takes part in flights: asks the keepers of what nobody has announced, and follows whom they name, or leads. It tells them
 * what arrives here, answers those who follow, and is a keeper for others.
 */
export class NodeFlight implements Flight {
  readonly #dependencies: FlightDependencies
  readonly #options: FlightOptions
  readonly #metrics: FlightMetrics
  readonly #keeper: Keeper
  readonly #downloads: Downloads
  readonly #closing = new AbortController()

  constructor(dependencies: FlightDependencies, options: FlightOptions) {
    const { store, holds, clock, metrics, members } = dependencies
    this.#dependencies = dependencies
    this.#options = options
    this.#keeper = new Keeper(clock)
    this.#downloads = new Downloads({
      ...{ store, holds, clock },
      onProgress: (download) => this.#tellProgress(download),
      onEnd: (download, end) => this.#tellEnd(download, end),
    })
    this.#metrics = metrics
    members.answer((question, from) => this.#answer(question, from))
  }

  get figures(): FlightFigures {
    return { kept: this.#keeper.size, arriving: this.#downloads.arriving }
  }

  async *sources(key: Key, signal: AbortSignal): AsyncIterable<Source> {
    const { router, clock } = this.#dependencies
    if (!isDigest(key)) return yield* router.lookup(key, signal)
    const stop = new AbortController()
    using _ = onAbort(signal, () => stop.abort())
    using _closing = onAbort(this.#closing.signal, () => stop.abort())
    const download = this.#downloads.begin(key)
    const found = new Found()
    // Whatever does not heed the signal holds nobody up.
    using _ended = onAbort(stop.signal, () => found.end())
    const started = Promise.withResolvers<void>()
    const cancels = [
      clock.after(HEAD_START, started.resolve),
      clock.after(this.#options.lookupTimeout + CLAIM_TIME, () => stop.abort()),
    ]
    const looking = this.#lookup(key, found, stop.signal).finally(started.resolve)
    const claiming = started.promise.then(async () => {
      if (found.isEmpty && !stop.signal.aborted) await this.#claim(download, found, stop.signal)
    })
    Promise.all([looking, claiming]).then(
      () => found.end(),
      (error) => found.fail(error),
    )
    try {
      for (;;) {
        const source = await found.next()
        if (source === undefined || signal.aborted) return
        yield source
      }
    } finally {
      for (const cancel of cancels) cancel()
      started.resolve()
      stop.abort()
    }
  }

  async state(peer: Peer, digest: Digest, signal: AbortSignal): Promise<SourceState | undefined> {
    for (let looks = 1; ; looks++) {
      const answer = await this.#ask(peer, { kind: 'state', digest }, signal)
      if (answer?.kind !== 'arriving' && answer?.kind !== 'held' && answer?.kind !== 'gone') return undefined
      const isKnown = answer.kind !== 'arriving' || answer.size !== undefined
      if (isKnown || looks === SIZE_LOOKS || signal.aborted) return answer
      await this.#pause(SIZE_INTERVAL, signal)
    }
  }

  left(peer: Peer, digest: Digest): void {
    this.#metrics.left.inc()
    this.#downloads.get(digest)?.leave(peer)
    this.#dependencies.log.debug('no longer followed', { key: digest, peer })
  }

  missed(digest: Digest): void {
    const download = this.#downloads.get(digest)
    if (download === undefined) return
    const wasFollowing = download.way.kind === 'peers' && download.hasBegun
    download.way = { kind: 'upstream', at: this.#dependencies.clock.now() }
    if (wasFollowing) this.#tellProgress(download)
  }

  /** Ends what it waits for. Others learn that nothing arrives here any more when they ask the next time. */
  close(): void {
    this.#closing.abort(new Error('closed'))
    this.#downloads.close()
  }

  async #lookup(key: Key, found: Found, signal: AbortSignal): Promise<void> {
    const { router, clock } = this.#dependencies
    const stop = new AbortController()
    using _ = onAbort(signal, () => stop.abort())
    const cancel = clock.after(this.#options.lookupTimeout, () => stop.abort())
    try {
      for await (const { host, port } of router.lookup(key, stop.signal)) found.add({ host, port })
    } finally {
      cancel()
    }
  }

  /** Asks the keepers of a digest for the place of this node in the flight. */
  async #claim(download: Download, found: Found, signal: AbortSignal): Promise<void> {
    const { digest } = download
    const gives = (await download.arriving(ARRIVAL_PATIENCE)) !== undefined
    if (signal.aborted) return
    const ruling = await this.#ruling({ kind: 'ask', digest, gives, not: download.left }, signal)
    this.#metrics.claims.inc({ answer: ruling?.kind ?? 'silent' })
    if (ruling === undefined || signal.aborted) return
    download.isClaimed ||= gives
    if (ruling.kind === 'holders') for (const peer of ruling.peers) found.add(peer)
    if (ruling.kind !== 'follow') return
    download.way = { kind: 'peers', parent: ruling.parent }
    this.#metrics.depths.observe(ruling.depth)
    found.add({ ...ruling.parent, isArriving: true })
  }

  async #ruling(question: Extract<Question, { kind: 'ask' }>, signal: AbortSignal): Promise<Ruling | undefined> {
    const { members, self, clock } = this.#dependencies
    for (const keeper of members.closest(digestKey(question.digest), KEEPERS)) {
      if (isSame(keeper, self)) return this.#keeper.ask(question, self)
      const late = new AbortController()
      using _ = onAbort(signal, () => late.abort())
      const cancel = clock.after(KEEPER_PATIENCE, () => late.abort())
      const answer = await this.#ask(keeper, question, late.signal)
      cancel()
      if (answer?.kind === 'holders' || answer?.kind === 'follow' || answer?.kind === 'lead') return answer
      if (signal.aborted) return undefined
    }
    return undefined
  }

  #tellProgress({ digest, isClaimed, arrival, way }: Download): void {
    if (!isClaimed) return
    const parent = way.kind === 'peers' ? way.parent : undefined
    void this.#tell({ kind: 'arriving', digest, written: arrival?.written ?? 0, ...(parent && { parent }) })
  }

  #tellEnd(download: Download, end: 'committed' | 'aborted'): void {
    const { digest, isClaimed, way, arrival, since } = download
    if (!isClaimed) return
    const role = way.kind === 'upstream' ? 'leader' : 'follower'
    const outcome = end === 'committed' ? 'complete' : 'aborted'
    this.#metrics.flights.inc({ role, outcome })
    const { clock, log } = this.#dependencies
    const parent = way.kind === 'peers' && way.parent !== undefined ? addressOf(way.parent) : undefined
    const ms = Math.round(clock.now() - since)
    log.info('flight', { key: digest, role, outcome, parent, bytes: arrival?.written ?? 0, ms })
    void this.#tell({ kind: end === 'committed' ? 'held' : 'gone', digest })
  }

  /** Tells all keepers of a digest; those that do not answer are told once more. */
  async #tell(news: News): Promise<void> {
    const { members, self } = this.#dependencies
    const { signal } = this.#closing
    const keepers = members.closest(digestKey(news.digest), KEEPERS)
    await Promise.all(
      keepers.map(async (keeper) => {
        if (isSame(keeper, self)) this.#keeper.tell(news, self)
        else if ((await this.#ask(keeper, news, signal)) === undefined) await this.#ask(keeper, news, signal)
      }),
    )
  }

  async #ask(peer: Peer, question: Question, signal: AbortSignal): Promise<Answer | undefined> {
    const answer = await this.#dependencies.members.ask(peer, encode(question), signal)
    return answer && readAnswer(answer)
  }

  async #pause(ms: number, signal: AbortSignal): Promise<void> {
    const over = Promise.withResolvers<void>()
    const cancel = this.#dependencies.clock.after(ms, over.resolve)
    using _ = onAbort(signal, over.resolve)
    await over.promise
    cancel()
  }

  /** The answer to another member. */
  #answer(message: Uint8Array, from: Peer): Uint8Array | undefined {
    const question = readQuestion(message)
    if (question === undefined) return undefined
    if (question.kind === 'ask') return encode(this.#keeper.ask(question, from))
    if (question.kind === 'state') return encode(this.#downloads.stateOf(question.digest))
    this.#keeper.tell(question, from)
    return encode({ kind: 'told' })
  }
}

/** Sources, in the order in which they were found, each once. */
class Found {
  readonly #addresses = new Set<string>()
  readonly #waiting: Source[] = []
  #end: { readonly error?: unknown } | undefined
  #news = Promise.withResolvers<void>()

  /** Whether none was found so far. */
  get isEmpty(): boolean {
    return this.#addresses.size === 0
  }

  add(source: Source): void {
    const address = addressOf(source)
    if (this.#addresses.has(address)) return
    this.#addresses.add(address)
    this.#waiting.push(source)
    this.#news.resolve()
  }

  end(): void {
    this.#end ??= {}
    this.#news.resolve()
  }

  fail(error: unknown): void {
    this.#end ??= { error }
    this.#news.resolve()
  }

  /** The next one; `undefined` when there are no more. @throws what it failed with */
  async next(): Promise<Source | undefined> {
    for (;;) {
      const source = this.#waiting.shift()
      if (source !== undefined) return source
      if (this.#end !== undefined) {
        if ('error' in this.#end) throw this.#end.error
        return undefined
      }
      await this.#news.promise
      this.#news = Promise.withResolvers()
    }
  }
}

function isSame(a: Peer, b: Peer): boolean {
  return a.host === b.host && a.port === b.port
}
