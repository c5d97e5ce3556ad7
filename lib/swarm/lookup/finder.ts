import type { Key } from '../../oci/key.ts'
import { addressOf } from '../../platform/address.ts'
import { type Clock, systemClock } from '../../platform/clock.ts'
import type { Announced, Realm } from '../announce/directory.ts'
import type { Contacts } from '../members/contacts.ts'
import { SharedList } from './shared-list.ts'
import { walk } from './walk.ts'

export interface FinderDependencies {
  readonly contacts: Contacts
  readonly realms: readonly Realm[]
  /** This node's own id, which is never a result. */
  readonly ownId: string
  readonly clock?: Clock
}

export interface FinderOptions {
  readonly replicas: number
  /** Milliseconds from its beginning for which a lookup that has found peers gives others their first ones. */
  readonly hitTime?: number
  /** The same for one that has found none, or none yet. */
  readonly missTime?: number
  /** Lookups that are kept at most. */
  readonly capacity?: number
  /** How many nodes are asked at a time. */
  readonly parallel?: number
  /** See walk.ts. */
  readonly late?: number
}

/** What is withdrawn must be gone after 2 s. */
const HIT_TIME = 1_500
/** What has just been announced must be found within 1 s. */
const MISS_TIME = 300
const CAPACITY = 2_000
/** Milliseconds that others have to be found before a peer that seems to be dead is given: a pull waits for 100 by default. */
const LOST_DELAY = 20

interface Lookup {
  readonly peers: SharedList<Announced>
  readonly startedAt: number
}

export interface FinderFigures {
  /** Lookups that were run, and those that were answered by one of the same key. */
  readonly lookups: number
  readonly shared: number
}

/**
 * Who has announced a key. Lookups of one key within a short time are one, which goes on for the others when one of them does
 * not want to know any more.
 */
export class Finder {
  readonly #contacts: Contacts
  readonly #realms: readonly Realm[]
  readonly #ownId: string
  readonly #clock: Clock
  readonly #options: Required<Pick<FinderOptions, 'hitTime' | 'missTime' | 'capacity'>> & FinderOptions
  /** The oldest first. */
  readonly #lookups = new Map<Key, Lookup>()
  #run = 0
  #shared = 0
  readonly #stop = new AbortController()

  constructor({ contacts, realms, ownId, clock = systemClock }: FinderDependencies, options: FinderOptions) {
    this.#contacts = contacts
    this.#realms = realms
    this.#ownId = ownId
    this.#clock = clock
    this.#options = { hitTime: HIT_TIME, missTime: MISS_TIME, capacity: CAPACITY, ...options }
  }

  get figures(): FinderFigures {
    return { lookups: this.#run, shared: this.#shared }
  }

  /** The members that announced the key, each once, this node left out. Ends when the signal aborts; does not throw. */
  async *find(key: Key, signal: AbortSignal): AsyncIterable<Announced> {
    if (signal.aborted || this.#stop.signal.aborted) return
    const stop = AbortSignal.any([signal, this.#stop.signal])
    const lookup = this.#fresh(key) ?? this.#start(key)
    const isRemembered = lookup.peers.ended && lookup.peers.length > 0
    yield* lookup.peers.read(stop)
    if (!isRemembered || stop.aborted) return
    // Whoever wants more than those who were found before gets those who have come since.
    const known = new Set<string>()
    for await (const { id } of lookup.peers.read(stop)) known.add(id)
    const latest = this.#lookups.get(key)
    const next = latest === undefined || latest === lookup ? this.#start(key) : latest
    for await (const peer of next.peers.read(stop)) if (!known.has(peer.id)) yield peer
  }

  /** Ends all lookups, and every one that still comes. */
  close(): void {
    this.#stop.abort()
    this.#lookups.clear()
  }

  #fresh(key: Key): Lookup | undefined {
    const lookup = this.#lookups.get(key)
    if (lookup === undefined) return undefined
    const { hitTime, missTime } = this.#options
    const age = this.#clock.now() - lookup.startedAt
    if (age >= (lookup.peers.length > 0 ? hitTime : missTime)) return undefined
    this.#shared++
    return lookup
  }

  #start(key: Key): Lookup {
    const now = this.#clock.now()
    this.#forget(now)
    const lookup: Lookup = { peers: new SharedList(), startedAt: now }
    this.#lookups.delete(key)
    this.#lookups.set(key, lookup)
    this.#run++
    void this.#look(key, lookup)
    return lookup
  }

  #forget(now: number): void {
    const { hitTime, capacity } = this.#options
    for (const [key, { startedAt }] of this.#lookups) {
      if (now - startedAt < hitTime && this.#lookups.size < capacity) return
      this.#lookups.delete(key)
    }
  }

  async #look(key: Key, { peers }: Lookup): Promise<void> {
    const seen = new Set([this.#ownId])
    /** Announced by nodes that do not answer any more. Should that be wrong, they are better than nobody. */
    const lost: Announced[] = []
    const release = () => {
      if (peers.length === 0) for (const peer of lost.splice(0)) peers.add(peer)
    }
    let cancel = (): void => undefined
    // A node that ended without taking anything back is still found under the id that it had.
    const self = addressOf(this.#contacts.map.self)
    const look = async (realm: Realm) => {
      const topic = realm.topicOf(key)
      const take = (records: Parameters<Parameters<typeof walk>[2]>[0]) => {
        for (const record of records) {
          const peer = realm.open(topic, record)
          if (peer === undefined || seen.has(peer.id) || addressOf(peer) === self) continue
          seen.add(peer.id)
          if (!this.#contacts.map.isLost(peer)) peers.add(peer)
          else if (lost.push(peer) === 1) cancel = this.#clock.after(LOST_DELAY, release)
        }
        return seen.size > 1
      }
      await walk(this.#contacts, topic, take, this.#options, this.#clock)
    }
    await Promise.all(this.#realms.map(look))
    cancel()
    release()
    peers.end()
  }
}
