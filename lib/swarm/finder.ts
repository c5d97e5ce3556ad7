import type { Key } from '../oci/key.ts'
import { type Clock, systemClock } from './clock.ts'
import type { Contacts } from './contacts.ts'
import type { Realm } from './directory.ts'
import type { Peer } from './router.ts'
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
  /** Milliseconds from its beginning for which a lookup that has found peers serves others. */
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

interface Lookup {
  readonly peers: SharedList<Peer>
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
  async *find(key: Key, signal: AbortSignal): AsyncIterable<Peer> {
    if (signal.aborted || this.#stop.signal.aborted) return
    const lookup = this.#fresh(key) ?? this.#start(key)
    yield* lookup.peers.read(AbortSignal.any([signal, this.#stop.signal]))
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
    /** Announced by nodes that do not answer any more. */
    const lost: Peer[] = []
    const look = async (realm: Realm) => {
      const topic = realm.topicOf(key)
      const take = (records: Parameters<Parameters<typeof walk>[2]>[0]) => {
        for (const record of records) {
          const peer = realm.open(topic, record)
          if (peer === undefined || seen.has(peer.id)) continue
          seen.add(peer.id)
          if (this.#contacts.map.isLost(peer)) lost.push(peer)
          else peers.add(peer)
        }
      }
      await walk(this.#contacts, topic, take, this.#options, this.#clock)
    }
    await Promise.all(this.#realms.map(look))
    // Should the others be wrong about them, that is better than nobody.
    if (peers.length === 0) for (const peer of lost) peers.add(peer)
    peers.end()
  }
}
