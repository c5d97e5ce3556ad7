import { setImmediate } from 'node:timers/promises'
import type { Flight } from '../flight/flight.ts'
import type { Logger } from '../observe/log.ts'
import type { Key } from '../oci/key.ts'
import type { KnownPeers } from '../peers/known-peers.ts'
import { onAbort } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import type { Clock } from '../platform/clock.ts'
import type { Peer } from '../swarm/router.ts'

export interface CandidatesDependencies {
  readonly flight: Pick<Flight, 'sources'>
  readonly known: KnownPeers
  readonly log: Logger
  readonly clock: Clock
  /** Told how long a lookup took until its first peer, or in vain, in milliseconds. */
  readonly onLookup: (ms: number, found: boolean) => void
}

/**
 * The peers that announced a key, as one lookup finds them, the best of those known first, each once. Peers that are put
 * aside come last, when no other can be found any more, and only if trying them costs nothing.
 */
export class Candidates {
  readonly #known: KnownPeers
  readonly #suits: (peer: Peer) => boolean
  readonly #stop = new AbortController()
  /** Addresses. */
  readonly #given = new Set<string>()
  #found: Peer[]
  #ended = false
  #news = Promise.withResolvers<void>()

  /**
   * @param lookupTimeout milliseconds for which peers are looked for
   * @param suits whether a peer may be asked at all, asked when it is its turn
   * @param likely peers that are worth asking before the lookup has found any
   */
  constructor(
    dependencies: CandidatesDependencies,
    key: Key,
    lookupTimeout: number,
    suits: (peer: Peer) => boolean,
    likely: readonly Peer[] = [],
  ) {
    this.#known = dependencies.known
    this.#suits = suits
    this.#found = [...likely]
    // Never rejects: a lookup that fails is logged and over.
    void this.#collect(dependencies, key, lookupTimeout)
  }

  /** The best peer that was not given yet; waits for the lookup if there is none. `undefined` when there are no more. */
  async next(): Promise<Peer | undefined> {
    for (;;) {
      const best = this.#take((peer) => !this.#known.isAside(peer))
      if (best !== undefined) return best
      if (this.#ended) return this.#take((peer) => this.#known.isCheapToTry(peer))
      await this.#news.promise
      // One reply of the swarm brings up to 20 peers: those that are there already are ranked together.
      await setImmediate()
    }
  }

  /** Ends the lookup. What it has found can still be had. */
  stop(): void {
    this.#stop.abort()
  }

  async #collect({ flight, log, onLookup, clock }: CandidatesDependencies, key: Key, timeout: number): Promise<void> {
    const { signal } = this.#stop
    const startedAt = clock.now()
    const cancelTimeout = clock.after(timeout, () => this.#stop.abort())
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
        if (this.#given.has(addressOf(peer))) continue
        this.#found.push(peer)
        this.#news.resolve()
        this.#news = Promise.withResolvers()
      }
    } catch (error) {
      if (!this.#ended) log.warn('lookup failed', { key, error })
    }
    end()
  }

  #take(may: (peer: Peer) => boolean): Peer | undefined {
    const [best] = this.#known.rank(this.#found.filter((peer) => this.#suits(peer) && may(peer)))
    if (best === undefined) return undefined
    const address = addressOf(best)
    this.#given.add(address)
    this.#found = this.#found.filter((peer) => addressOf(peer) !== address)
    return best
  }
}
