import { setImmediate } from 'node:timers/promises'
import type { Source } from '../flight/flight.ts'
import type { Logger } from '../observe/log.ts'
import type { Key } from '../oci/key.ts'
import type { KnownPeers } from '../peers/known-peers.ts'
import { bounded, OVER, orAborted } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import type { Clock } from '../platform/clock.ts'
import type { TransferMetrics } from './metrics.ts'

export interface CandidatesDependencies {
  readonly known: KnownPeers
  readonly log: Logger
  readonly metrics: TransferMetrics
  readonly clock: Clock
}

/** The peers that may have some content. */
export type Candidates = ReturnType<typeof candidatesFor>

/**
 * The peers that may have the content of a key, as one lookup finds them: each once, and the best known ones first. Peers that
 * are still getting the content come after those that have it. Peers that are put aside come last, when no others can be found,
 * and only if trying them costs nothing.
 *
 * @param lookup finds peers
 * @param timeout milliseconds for which the lookup may run
 * @param suits whether a peer may be asked at all; called when it is the peer's turn
 */
export function candidatesFor(
  key: Key,
  { known, log, metrics, clock }: CandidatesDependencies,
  lookup: (signal: AbortSignal) => AsyncIterable<Source>,
  timeout: number,
  suits: (peer: Source) => boolean,
) {
  const stop = new AbortController()
  /** By {@link nameOf}; `undefined` for those that were returned. */
  const found = new Map<string, Source | undefined>()
  const startedAt = clock.now()
  let isOver = false
  let news = Promise.withResolvers<void>()

  const take = (may: (peer: Source) => boolean): Source | undefined => {
    const left = [...found.values()].filter((peer) => peer !== undefined)
    const suitable = left.filter((peer) => suits(peer) && may(peer))
    const holders = suitable.filter(({ isArriving }) => isArriving !== true)
    const [best] = known.rank(holders.length > 0 ? holders : suitable)
    if (best !== undefined) found.set(nameOf(best), undefined)
    return best
  }

  /** Call this when a lookup has found its first peer, or ended without one. */
  const count = (found: 'true' | 'false') => {
    metrics.lookups.inc({ found })
    metrics.lookupSeconds.observe({ found }, (clock.now() - startedAt) / 1000)
  }

  /** Never rejects: a failed lookup is logged and over. */
  const collect = async (signal: AbortSignal) => {
    try {
      for await (const peer of lookup(signal)) {
        if (signal.aborted) return
        if (found.size === 0) count('true')
        if (found.has(nameOf(peer))) continue
        found.set(nameOf(peer), peer)
        news.resolve()
        news = Promise.withResolvers()
      }
    } catch (error) {
      if (!signal.aborted) log.warn('lookup failed', { key, error })
    }
  }
  const end = () => {
    isOver = true
    if (found.size === 0) count('false')
    news.resolve()
  }

  // A lookup that ignores its signal must not hold anybody up.
  void bounded(timeout, stop.signal, (late) => orAborted(collect(late), late), clock).then(end)
  return {
    /**
     * The best peer that was not returned yet; waits for the lookup if there is none. `undefined` if there are no more.
     *
     * @param isWanted whether the caller wants a peer
     */
    async next(isWanted: (peer: Source) => boolean = () => true): Promise<Source | undefined> {
      for (;;) {
        const best = take((peer) => isWanted(peer) && !known.isAside(peer))
        if (best !== undefined) return best
        if (isOver) return take((peer) => isWanted(peer) && known.isCheapToTry(peer))
        await news.promise
        // One reply of the swarm brings up to 20 peers. Wait a moment, so that all of them are ranked together.
        await setImmediate()
      }
    },

    /** Ends the lookup. Peers that it has found can still be taken. */
    stop: (): void => stop.abort(OVER),
  }
}

/** A peer that is getting the content counts as another source than the same peer once it has the content. */
function nameOf(source: Source): string {
  return `${addressOf(source)}${source.isArriving === true ? ' arriving' : ''}`
}
