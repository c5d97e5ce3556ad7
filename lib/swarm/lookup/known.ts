import type { Key } from '../../oci/key.ts'
import { type Clock, systemClock } from '../../platform/clock.ts'
import type { NetworkMap } from '../dht/network-map.ts'
import type { RecordStore } from '../dht/record-store.ts'
import { MOST_ANSWERED } from '../dht/rpc.ts'
import { INTERVAL, RATE } from '../members/discovery.ts'
import { compareDistance, fromCompact, type NodeAddress } from '../node.ts'
import type { Known } from '../router.ts'

export interface OwnRecordsDependencies {
  readonly map: NetworkMap
  readonly records: Pick<RecordStore, 'get' | 'count' | 'isFull'>
  /** The topics of a key, one for each swarm key. */
  readonly topicsOf: (key: Key) => readonly Uint8Array[]
  readonly clock?: Clock
}

/**
 * Rounds of questions to all nodes that a node has to live through until it counts as one that all others have sent what it
 * has to keep. After a restart others notice in one or two rounds that it has forgotten what they sent.
 */
const ROUNDS = 6

/**
 * What this node keeps of others' announcements, and whether that is all there is: it is, of the topics that it has been
 * close to for long. Of the nodes that are to hold a topic, each will do; the farther half may have come to it just now.
 */
export class OwnRecords {
  readonly #dependencies: OwnRecordsDependencies
  readonly #clock: Clock
  readonly #closest: number
  readonly #startedAt: number

  /** @param replicas on how many of the closest nodes a key is stored */
  constructor(dependencies: OwnRecordsDependencies, replicas: number) {
    this.#dependencies = dependencies
    this.#clock = dependencies.clock ?? systemClock
    this.#closest = Math.ceil(replicas / 2)
    this.#startedAt = this.#clock.now()
  }

  isWhole(topic: Uint8Array): boolean {
    const { map, records } = this.#dependencies
    const round = Math.max(INTERVAL, (map.others * 1_000) / RATE)
    // What it has no room for is with others.
    if (this.#clock.now() - this.#startedAt < ROUNDS * round || records.isFull(topic)) return false
    const closest = map.closest(topic, this.#closest)
    const farthest = closest.at(-1)
    const isFew = farthest === undefined || closest.length < this.#closest
    return isFew || compareDistance(topic, map.self.id, farthest.id) <= 0
  }

  /** Some records of a topic, if this node has all of them. */
  ofWhole(topic: Uint8Array): readonly NodeAddress[] | undefined {
    return this.isWhole(topic) ? this.#recordsOf(topic) : undefined
  }

  /** What is known of a key; without peers that have not shown yet that they are members, or are not there any more. */
  of(key: Key): Known {
    const { map, records, topicsOf } = this.#dependencies
    const topics = topicsOf(key)
    const all = topics.flatMap((topic) => this.#recordsOf(topic))
    const peers = all.filter((address) => map.get(address) !== undefined).map(({ host, port }) => ({ host, port }))
    const count = topics.reduce((sum, topic) => sum + records.count(topic), 0)
    // Those left out may be there all the same, and be all there are. Other swarm keys have other closest nodes.
    const isWhole = topics.length === 1 && topics.every((topic) => this.isWhole(topic))
    return { peers, count, isWhole: isWhole && (peers.length > 0 || all.length === 0) }
  }

  #recordsOf(topic: Uint8Array): NodeAddress[] {
    return this.#dependencies.records.get(topic, MOST_ANSWERED).map(fromCompact)
  }
}
