import type { SourceState } from '../flight/flight.ts'
import { PeerError } from '../peers/error.ts'
import { bounded, OVER } from '../platform/abort.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Clock } from '../platform/clock.ts'

export interface FollowingDependencies {
  /** Asks the peer for all that is wanted, as it gets it. @throws what is the peer's fault */
  readonly open: (signal: AbortSignal) => Promise<ByteSource>
  /** Asks the peer how far it is; `undefined` if it does not answer. */
  readonly state: (signal: AbortSignal) => Promise<SourceState | undefined>
  readonly clock: Clock
}

/** After how many milliseconds without a byte a peer is asked how it is, and how long it may take to answer. */
const LOOK = 300
const ANSWER = 600
/** How often in a row it may not answer: one datagram may be lost. */
const MISSES = 2
/**
 * Milliseconds without growth after which a peer that goes upstream is left. Slow registries stand still for seconds, and a new
 * leader costs them the same bytes again.
 */
const LONGEST_STANDSTILL = 15_000
/** The same for a peer that follows another one. It looks after that itself, and must have the time to do so first. */
const LONGEST_PATIENCE = 25_000
/** The same for one that follows and has no byte yet: it may wait for this very node, by way of others. */
const LONGEST_EMPTY = 5_000
/** Milliseconds for which bytes may be on their way that are there: the way is broken. */
const LONGEST_WAY = 5_000

/**
 * Milliseconds for which may be waited for so many bytes. No registry is so slow, and whoever gives a byte now and then must not
 * hold a client up for ever.
 */
const LONGEST_CRAWL = 60_000
const CRAWL = 1 << 20

/** The peer has no byte, and goes upstream when its turn has come: nothing speaks against it. */
export class TurnError extends PeerError {}

/**
 * The bytes of content that a peer is still getting, as it gets them. That it gets no more for a while says nothing: as long as
 * it lives, and says that it goes on, it is waited for.
 */
export class Following implements ByteSource {
  readonly #dependencies: FollowingDependencies
  readonly #stop = new AbortController()
  readonly #opened: Promise<ByteSource>
  /** Place of the next byte, and how much the peer was known to have when it last had more. */
  #offset: number
  #written = 0
  #grewAt: number
  /** Since when the peer has had the byte that does not come. */
  #missingSince: number | undefined
  #misses = 0
  #lost: PeerError | undefined
  /** Since when a byte is waited for. */
  #waitsSince: number | undefined
  #cancelLook: (() => void) | undefined
  /** How many bytes have come lately, and for how long they were waited for. */
  #crawled = { bytes: 0, ms: 0 }

  constructor(dependencies: FollowingDependencies, start: number) {
    this.#dependencies = dependencies
    this.#offset = start
    this.#grewAt = dependencies.clock.now()
    this.#opened = dependencies.open(this.#stop.signal)
    // Whoever reads it hears of the failure.
    this.#opened.catch(() => undefined)
  }

  /** @throws {PeerError} when the peer is lost, or has no more although there should be */
  async next(): Promise<Uint8Array | undefined> {
    const { clock } = this.#dependencies
    const since = clock.now()
    if (this.#crawled.ms >= LONGEST_CRAWL) throw new PeerError(`fewer than ${CRAWL} bytes within ${LONGEST_CRAWL} ms`)
    this.#waitsSince = since
    if (this.#cancelLook === undefined) this.#lookLater(LOOK)
    try {
      const body = await this.#opened
      const chunk = await body.next()
      if (chunk === undefined) throw new PeerError(`the peer has got nothing after ${this.#offset}`)
      this.#offset += chunk.length
      this.#written = Math.max(this.#written, this.#offset)
      this.#grewAt = clock.now()
      const bytes = this.#crawled.bytes + chunk.length
      this.#crawled = bytes < CRAWL ? { bytes, ms: this.#crawled.ms + clock.now() - since } : { bytes: 0, ms: 0 }
      this.#misses = 0
      this.#missingSince = undefined
      return chunk
    } catch (error) {
      throw this.#lost ?? error
    } finally {
      this.#waitsSince = undefined
    }
  }

  async cancel(): Promise<void> {
    this.#cancelLook?.()
    this.#stop.abort(OVER)
    await this.#opened.then((body) => body.cancel()).catch(() => undefined)
  }

  /** One timer, set again for the rest of the time: one for each chunk would cost more. */
  #lookLater(ms: number): void {
    this.#cancelLook = this.#dependencies.clock.after(ms, () => void this.#look())
  }

  async #look(): Promise<void> {
    const { clock, state: ask } = this.#dependencies
    const { signal } = this.#stop
    const since = this.#waitsSince
    if (signal.aborted) return
    if (since === undefined) {
      // The client rests: the next call begins anew.
      this.#cancelLook = undefined
      return
    }
    const waited = clock.now() - since
    if (waited < LOOK) return this.#lookLater(LOOK - waited)
    const offset = this.#offset
    const askedAt = clock.now()
    const state = await bounded(ANSWER, signal, (stop) => ask(stop), clock)
    if (signal.aborted) return
    if (this.#offset > offset) return this.#lookLater(LOOK)
    this.#lost = this.#judge(state)
    if (this.#lost !== undefined) await this.cancel()
    // Who has not answered in all that time is asked again at once.
    else this.#lookLater(Math.max(askedAt + LOOK - clock.now(), 0))
  }

  /** Why the peer is lost, by what it says of itself; `undefined` if it is worth waiting for. */
  #judge(state: SourceState | undefined): PeerError | undefined {
    const now = this.#dependencies.clock.now()
    if (state === undefined) {
      this.#misses++
      return this.#misses < MISSES ? undefined : new PeerError('it does not answer', { failure: 'silent' })
    }
    this.#misses = 0
    if (state.kind === 'gone') return new PeerError('it has given up')
    if (state.kind === 'later') return new TurnError('it waits for its turn')
    if (state.kind === 'waiting') {
      this.#grewAt = now
      return undefined
    }
    const written = state.kind === 'held' ? Number.POSITIVE_INFINITY : state.written
    if (written > this.#written) this.#grewAt = now
    this.#written = Math.max(written, this.#written)
    if (written > this.#offset) this.#missingSince ??= now
    if (now - (this.#missingSince ?? now) >= LONGEST_WAY) {
      return new PeerError(`no byte of what it has within ${LONGEST_WAY} ms`, { failure: 'silent' })
    }
    const isLeader = state.kind === 'arriving' && state.leads
    const patience = isLeader ? LONGEST_STANDSTILL : this.#written === 0 ? LONGEST_EMPTY : LONGEST_PATIENCE
    return now - this.#grewAt < patience ? undefined : new PeerError(`it has got nothing for ${patience} ms`)
  }
}
