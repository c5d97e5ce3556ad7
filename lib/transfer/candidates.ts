import { setImmediate } from 'node:timers/promises'
import type { Flight, Source } from '../flight/flight.ts'
import type { Logger } from '../observe/log.ts'
import type { Key } from '../oci/key.ts'
import type { KnownPeers } from '../peers/known-peers.ts'
import { OVER, onAbort } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import type { Clock } from '../platform/clock.ts'

export interface CandidatesDependencies {
  readonly flight: Pick<Flight, 'sources'>
  readonly known: KnownPeers
  readonly log: Logger
  readonly clock: Clock
  /** Told how long a lookup took until its first peer, or in vain, in milliseconds. */
  readonly onLookup: (ms: number, found: boolean) => void
}

/**
 * The peers that may have the content of a key, as one lookup finds them, the best of those known first, each once. Those that
 * are still getting it come after those that have it. Peers that are put aside come last, when no other can be found any more,
 * and only if trying them costs nothing.
 */
export class Candidates {
  readonly #known: KnownPeers
  readonly #suits: (peer: Source) => boolean
  readonly #stop = new AbortController()
  /** See {@link nameOf}. */
  readonly #given = new Set<string>()
  #found: Source[] = []
  #ended = false
  #news = Promise.withResolvers<void>()

  /**
   * @param lookupTimeout milliseconds for which peers are looked for
   * @param suits whether a peer may be asked at all, asked when it is its turn
   */
  constructor(dependencies: CandidatesDependencies, key: Key, lookupTimeout: number, suits: (peer: Source) => boolean) {
    this.#known = dependencies.known
    this.#suits = suits
    // Never rejects: a lookup that fails is logged and over.
    void this.#collect(dependencies, key, lookupTimeout)
  }

  /**
   * The best peer that was not given yet; waits for the lookup if there is none. `undefined` when there are no more.
   *
   * @param isWanted whether a peer will do
   */
  async next(isWanted: (peer: Source) => boolean = () => true): Promise<Source | undefined> {
    for (;;) {
      const best = this.#take((peer) => isWanted(peer) && !this.#known.isAside(peer))
      if (best !== undefined) return best
      if (this.#ended) return this.#take((peer) => isWanted(peer) && this.#known.isCheapToTry(peer))
      await this.#news.promise
      // One reply of the swarm brings up to 20 peers: those that are there already are ranked together.
      await setImmediate()
    }
  }

  /** Ends the lookup. What it has found can still be had. */
  stop(): void {
    this.#stop.abort(OVER)
  }

  async #collect({ flight, log, onLookup, clock }: CandidatesDependencies, key: Key, timeout: number): Promise<void> {
    const { signal } = this.#stop
    const startedAt = clock.now()
    const cancelTimeout = clock.after(timeout, () => this.#stop.abort(OVER))
    let found = 0
    const end = () => {
      if (this.#ended) return
      this.#ended = true
      cancelTimeout()
      if (found === 0) onLookup(clock.now() - startedAt, false)
      this.#news.resolve()
    }
    // A lookup that does not heed its signal holds nobody up.
    using _ = onAbort(signal, end)
    try {
      for await (const peer of flight.sources(key, signal)) {
        if (this.#ended) return
        if (found++ === 0) onLookup(clock.now() - startedAt, true)
        if (this.#given.has(nameOf(peer))) continue
        this.#found.push(peer)
        this.#news.resolve()
        this.#news = Promise.withResolvers()
      }
    } catch (error) {
      if (!this.#ended) log.warn('lookup failed', { key, error })
    }
    end()
  }

  #take(may: (peer: Source) => boolean): Source | undefined {
    const suitable = this.#found.filter((peer) => this.#suits(peer) && may(peer))
    const holders = suitable.filter(({ isArriving }) => isArriving !== true)
    const [best] = this.#known.rank(holders.length > 0 ? holders : suitable)
    if (best === undefined) return undefined
    const name = nameOf(best)
    this.#given.add(name)
    this.#found = this.#found.filter((peer) => nameOf(peer) !== name)
    return best
  }
}

/** A peer that is getting the content is another source than the same one that has it. */
function nameOf(source: Source): string {
  return `${addressOf(source)}${source.isArriving === true ? ' arriving' : ''}`
}
