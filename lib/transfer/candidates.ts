import { setImmediate } from 'node:timers/promises'
import type { Logger } from '../observe/log.ts'
import type { Key } from '../oci/key.ts'
import type { KnownPeers } from '../peers/known-peers.ts'
import { patientClock } from '../peers/patient-clock.ts'
import { addressOf } from '../platform/address.ts'
import type { Clock } from '../platform/clock.ts'
import type { Peer, Router } from '../swarm/router.ts'
import { eagerly } from './eagerly.ts'

export interface CandidatesDependencies {
  readonly router: Router
  readonly known: KnownPeers
  readonly log: Logger
  /** Told how long a lookup took until its first peer, in milliseconds, and whether there was one. */
  readonly onLookup?: (ms: number, found: boolean) => void
  readonly clock?: Clock
}

/** What one transfer says of peers; looked at when it is their turn. */
export interface CandidatesChoice {
  /** Whether a peer may be asked for this key at all. */
  readonly suits: (peer: Peer) => boolean
  /** Whether it is only to be asked when nobody else is left to be found; without it, none is. */
  readonly isLastResort?: (peer: Peer) => boolean
}

/**
 * The peers that announced a key, as one lookup finds them, the best of those known first. Each door is given once, even if
 * it is found under several ids: a node that was started again is found under its former one, too, for a while. Peers that
 * are put aside come last, when nobody else is left to be found, and only if trying them costs nothing.
 */
export class Candidates {
  readonly #known: KnownPeers
  readonly #choice: CandidatesChoice
  readonly #stop = new AbortController()
  /** Addresses. */
  readonly #given = new Set<string>()
  #found: Peer[]
  #ended = false
  #news = Promise.withResolvers<void>()

  /**
   * @param lookupTimeout milliseconds for which peers are looked for
   * @param likely peers that are worth asking before the lookup has found any
   */
  constructor(
    dependencies: CandidatesDependencies,
    key: Key,
    lookupTimeout: number,
    choice: CandidatesChoice,
    likely: readonly Peer[] = [],
  ) {
    this.#known = dependencies.known
    this.#choice = choice
    this.#found = [...likely]
    // Never rejects: a lookup that fails is logged and over.
    void this.#collect(dependencies, key, lookupTimeout)
  }

  /** The best peer that was not given yet; waits for the lookup if there is none. `undefined` when there are no more. */
  async next(): Promise<Peer | undefined> {
    for (;;) {
      const isFit = (peer: Peer) => !this.#known.isAside(peer)
      const best = this.#take((peer) => isFit(peer) && this.#choice.isLastResort?.(peer) !== true)
      if (best !== undefined) return best
      if (this.#ended) return this.#take(isFit) ?? this.#take((peer) => this.#known.isCheapToTry(peer))
      await this.#news.promise
      // One reply of the swarm brings up to 20 peers: those that are there already are ranked together.
      await setImmediate()
    }
  }

  /** Ends the lookup. What it has found can still be had. */
  stop(): void {
    this.#stop.abort()
  }

  async #collect({ router, log, onLookup, clock = patientClock }: CandidatesDependencies, key: Key, timeout: number) {
    const startedAt = clock.now()
    const cancelTimeout = clock.after(timeout, () => this.#stop.abort())
    let found = 0
    try {
      for await (const peer of eagerly(router.lookup(key, this.#stop.signal), this.#stop.signal)) {
        if (found++ === 0) onLookup?.(clock.now() - startedAt, true)
        if (this.#given.has(addressOf(peer))) continue
        this.#found.push(peer)
        this.#tell()
      }
    } catch (error) {
      log.warn('lookup failed', { key, error })
    }
    cancelTimeout()
    if (found === 0) onLookup?.(clock.now() - startedAt, false)
    this.#ended = true
    this.#tell()
  }

  #tell(): void {
    this.#news.resolve()
    if (!this.#ended) this.#news = Promise.withResolvers()
  }

  #take(may: (peer: Peer) => boolean): Peer | undefined {
    const best = this.#known.rank(this.#found.filter((peer) => this.#choice.suits(peer) && may(peer)))[0]
    if (best === undefined) return undefined
    const door = addressOf(best)
    this.#given.add(door)
    this.#found = this.#found.filter((peer) => addressOf(peer) !== door)
    return best
  }
}
