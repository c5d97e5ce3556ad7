import type { Key } from '../../oci/key.ts'
import { orAborted } from '../../platform/abort.ts'
import { addressOf } from '../../platform/address.ts'
import { BoundedMap } from '../../platform/bounded-map.ts'
import { type Clock, systemClock } from '../../platform/clock.ts'
import type { DhtClient } from '../dht/client.ts'
import type { NodeAddress } from '../node.ts'
import type { Peer } from '../router.ts'
import { findRecords } from './find-records.ts'

export interface FinderDependencies {
  readonly dht: DhtClient
  /** The topics of a key, one for each swarm key. */
  readonly topicsOf: (key: Key) => readonly Uint8Array[]
  /** Returns the records of a topic, if this node itself has all of them. */
  readonly own: (topic: Uint8Array) => readonly NodeAddress[] | undefined
  readonly clock?: Clock
}

/**
 * Milliseconds after its start for which a lookup that has found peers serves later lookups. A withdrawn key must be gone after
 * 2 s.
 */
const HIT_TIME = 1_500
/** The same for a lookup that has found no peer, or none yet. A new announcement must be found within 1 s. */
const MISS_TIME = 300
/** How many lookups are kept, each of 1 KiB: far more than a node begins in that time. */
const CAPACITY = 500
/** Milliseconds to find other peers before a peer that seems dead is given. By default, a pull waits for 100 ms. */
const LOST_DELAY = 20

/**
 * Finds out who has announced a key. Lookups of the same key within a short time share one lookup, which goes on for the other
 * callers when one stops.
 *
 * @param replicas how many of the nodes closest to a topic to ask
 */
export function createFinder({ dht, topicsOf, own, clock = systemClock }: FinderDependencies, replicas: number) {
  const lookups = new BoundedMap<Lookup, Key>(CAPACITY)
  const closing = new AbortController()

  function fresh(key: Key): Lookup | undefined {
    const lookup = lookups.get(key)
    if (lookup === undefined) return undefined
    const age = clock.now() - lookup.startedAt
    return age < (lookup.peers.length > 0 ? HIT_TIME : MISS_TIME) ? lookup : undefined
  }

  function start(key: Key): Lookup {
    const lookup = new Lookup(clock.now())
    lookups.set(key, lookup)
    void look(key, lookup)
    return lookup
  }

  async function look(key: Key, lookup: Lookup): Promise<void> {
    const seen = new Set<string>()
    /** Peers that no longer answer. If they are alive after all, they are better than no peer. */
    const lost: Peer[] = []
    const release = () => {
      if (lookup.peers.length === 0) for (const peer of lost.splice(0)) lookup.add(peer)
    }
    let cancel = (): void => undefined
    const checks: Promise<void>[] = []
    const { map } = dht
    const self = addressOf(map.self)
    // A member can name any address, so an unknown one must answer before anybody sends it a request.
    const check = async (peer: Peer, topic: Uint8Array) => {
      const reply = await dht.ask(dht.nodeAt(peer), topic)
      if (reply?.token !== undefined) lookup.add(peer)
    }
    const lookFor = async (topic: Uint8Array) => {
      const take = (records: readonly NodeAddress[]) => {
        for (const peer of records) {
          const name = addressOf(peer)
          if (seen.has(name) || name === self) continue
          seen.add(name)
          if (map.get(peer) !== undefined) lookup.add(peer)
          else if (!map.isLost(peer)) checks.push(check(peer, topic))
          else if (map.hasAnswered(peer) && lost.push(peer) === 1) cancel = clock.after(LOST_DELAY, release)
        }
        return seen.size > 0
      }
      const records = own(topic)
      if (records === undefined) await findRecords(dht, topic, replicas, take, clock)
      else take(records)
    }
    await Promise.all(topicsOf(key).map(lookFor))
    await Promise.all(checks)
    cancel()
    release()
    lookup.end()
  }

  return {
    /** The members that announced the key, each once, without this node. Ends when the signal aborts; does not throw. */
    async *find(key: Key, signal: AbortSignal): AsyncIterable<Peer> {
      if (signal.aborted || closing.signal.aborted) return
      const stop = AbortSignal.any([signal, closing.signal])
      const lookup = fresh(key) ?? start(key)
      const isRemembered = lookup.isEnded && lookup.peers.length > 0
      yield* lookup.read(stop)
      if (!isRemembered || stop.aborted) return
      // A caller that wants more than the earlier results gets the peers that have come since.
      const known = new Set(lookup.peers.map(addressOf))
      const latest = lookups.get(key)
      const next = latest === undefined || latest === lookup ? start(key) : latest
      for await (const peer of next.read(stop)) if (!known.has(addressOf(peer))) yield peer
    },

    /** Ends all lookups, and every later one. */
    close(): void {
      closing.abort()
    },
  }
}

/** The peers that a lookup has found so far. Any number of readers follow it, each at its own speed. */
class Lookup {
  readonly startedAt: number
  readonly peers: Peer[] = []
  isEnded = false
  #news = Promise.withResolvers<void>()

  constructor(startedAt: number) {
    this.startedAt = startedAt
  }

  add(peer: Peer): void {
    this.peers.push(peer)
    this.#tell()
  }

  end(): void {
    this.isEnded = true
    this.#tell()
  }

  /** All peers from the first one on, until the lookup ends or the signal aborts. */
  async *read(signal: AbortSignal): AsyncIterable<Peer> {
    for (let at = 0; !signal.aborted; ) {
      if (at < this.peers.length) yield this.peers[at++] as Peer
      else if (this.isEnded) return
      else await orAborted(this.#news.promise, signal)
    }
  }

  #tell(): void {
    const { resolve } = this.#news
    this.#news = Promise.withResolvers()
    resolve()
  }
}
