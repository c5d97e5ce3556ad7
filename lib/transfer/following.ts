import type { SourceState } from '../flight/flight.ts'
import { PeerError } from '../peers/error.ts'
import { bounded, OVER, until } from '../platform/abort.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Clock } from '../platform/clock.ts'

export interface FollowingDependencies {
  /** Asks the peer for the bytes as it gets them. @throws errors that are the peer's fault */
  readonly open: (signal: AbortSignal) => Promise<ByteSource>
  /** Asks the peer how far it is; `undefined` if it does not answer. */
  readonly state: (signal: AbortSignal) => Promise<SourceState | undefined>
  readonly clock: Clock
  /** How many nodes may be above the peer. */
  readonly crowd?: number | undefined
}

/** Milliseconds without a byte after which the follower asks the peer how far it is, and milliseconds for the answer. */
const LOOK = 300
const ANSWER = 600
/** How many questions in a row the peer may leave unanswered: one datagram may be lost. */
const MISSES = 2
/**
 * Milliseconds without growth after which the follower leaves a peer that goes upstream. Slow registries stand still for
 * seconds, and a new leader makes them send the same bytes again.
 */
const LONGEST_STANDSTILL = 15_000
/**
 * The same for a peer that follows another one. It is longer, because that peer must have the time to leave its own parent
 * first.
 */
const LONGEST_PATIENCE = 25_000
/**
 * The same for a peer that follows another one and has no byte yet, and how much longer for each node that may be above it: it
 * may be at the end of a long line, or wait for this very node, through others.
 */
const LONGEST_EMPTY = 5_000
const LONGEST_HOP = 100
/** Milliseconds for which bytes that the peer has may take to arrive. After that the way must be broken. */
const LONGEST_WAY = 5_000
/**
 * Milliseconds in which at least `CRAWL` bytes must come. No registry is that slow, and a peer that sends a byte now and
 * then must not hold up a client for ever.
 */
const LONGEST_CRAWL = 60_000
const CRAWL = 1 << 20

/** The peer has no byte yet, and goes upstream when its turn comes. That does not count against it. */
export class TurnError extends PeerError {}

/**
 * The bytes of content that a peer is still getting, as the peer gets them. If the peer gets none for a while, the reader
 * waits, as long as the peer lives and says that it goes on. Fails with a PeerError if the peer is lost, or ends before its
 * last byte.
 */
export function following({ open, state, clock, crowd = 0 }: FollowingDependencies, start: number): ByteSource {
  const stop = new AbortController()
  const { signal } = stop
  const empty = Math.min(LONGEST_EMPTY + crowd * LONGEST_HOP, LONGEST_PATIENCE)
  const opened = open(signal)
  // The reader gets the failure from `next`.
  opened.catch(() => undefined)
  /** The offset of the next byte, and how many bytes the peer had when its number last grew. */
  let offset = start
  let written = 0
  let grewAt = clock.now()
  /** Since when the peer has the byte that does not come. */
  let missingSince: number | undefined
  let misses = 0
  let lost: PeerError | undefined
  /** Since when the reader waits for a byte. */
  let waitsSince: number | undefined
  let isWatched = false
  /** How many bytes have come lately, and for how long the reader waited for them. */
  let crawled = { bytes: 0, ms: 0 }

  /** Why the peer is lost, by its own state; `undefined` if it is worth waiting for. */
  const judge = (told: SourceState | undefined): PeerError | undefined => {
    const now = clock.now()
    misses = told === undefined ? misses + 1 : 0
    if (misses === MISSES) return new PeerError('it does not answer', { failure: 'silent' })
    if (told?.kind === 'gone') return new PeerError('it has given up')
    if (told?.kind === 'later') return new TurnError('it waits for its turn')
    if (told?.kind === 'waiting') grewAt = now
    if (told === undefined || told.kind === 'waiting') return undefined
    const has = told.kind === 'held' ? Number.POSITIVE_INFINITY : told.written
    if (has > written) grewAt = now
    written = Math.max(has, written)
    if (has > offset) missingSince ??= now
    if (now - (missingSince ?? now) >= LONGEST_WAY) {
      return new PeerError(`no byte of what it has within ${LONGEST_WAY} ms`, { failure: 'silent' })
    }
    const isLeader = told.kind === 'arriving' && told.leads
    const patience = isLeader ? LONGEST_STANDSTILL : written === 0 ? empty : LONGEST_PATIENCE
    return now - grewAt < patience ? undefined : new PeerError(`it has got nothing for ${patience} ms`)
  }

  /** Asks the peer how far it is, repeatedly, while the reader waits for a byte. */
  const watch = async () => {
    isWatched = true
    for (let lookAt = clock.now() + LOOK; ; ) {
      await until(clock, lookAt, signal).catch(() => undefined)
      isWatched = waitsSince !== undefined
      // The reader has its byte and rests. The next call begins anew.
      if (signal.aborted || waitsSince === undefined) return
      lookAt = waitsSince + LOOK
      if (lookAt > clock.now()) continue
      const [before, askedAt] = [offset, clock.now()]
      const told = await bounded(ANSWER, signal, state, clock)
      if (signal.aborted) return
      // A peer that has not answered in all that time is asked again at once.
      lookAt = (offset > before ? clock.now() : askedAt) + LOOK
      if (offset > before) continue
      lost = judge(told)
      if (lost !== undefined) return await cancel()
    }
  }

  const cancel = async () => {
    stop.abort(OVER)
    await opened.then((body) => body.cancel()).catch(() => undefined)
  }

  return {
    async next() {
      const since = clock.now()
      if (crawled.ms >= LONGEST_CRAWL) throw new PeerError(`fewer than ${CRAWL} bytes within ${LONGEST_CRAWL} ms`)
      waitsSince = since
      if (!isWatched) void watch()
      try {
        const chunk = await (await opened).next()
        if (chunk === undefined) throw new PeerError(`the peer has got nothing after ${offset}`)
        offset += chunk.length
        written = Math.max(written, offset)
        grewAt = clock.now()
        const bytes = crawled.bytes + chunk.length
        crawled = bytes < CRAWL ? { bytes, ms: crawled.ms + grewAt - since } : { bytes: 0, ms: 0 }
        misses = 0
        missingSince = undefined
        return chunk
      } catch (error) {
        throw lost ?? error
      } finally {
        waitsSince = undefined
      }
    },
    cancel,
  }
}
