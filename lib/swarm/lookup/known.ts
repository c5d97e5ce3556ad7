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
  readonly records: Pick<RecordStore, 'get' | 'isFull'>
  /** The topics of a key, one for each swarm key. */
  readonly topicsOf: (key: Key) => readonly Uint8Array[]
  readonly clock?: Clock
}

/**
 * How many rounds of questions to all nodes a node must live through before it can assume that all others have sent it their
 * records. After its restart, others notice with their next question that it has forgotten them. A node that was alone is new
 * to all others.
 */
const ROUNDS = 6

/**
 * The announcements that this node keeps for others, and whether they are complete. They are for topics to which this node has
 * been close for long. It must be in the closer half of the nodes that hold a topic, because the farther half may have just got
 * there.
 *
 * @param replicas how many of the closest nodes store a key
 */
export function createOwnRecords(
  { map, records, topicsOf, clock = systemClock }: OwnRecordsDependencies,
  replicas: number,
) {
  const count = Math.ceil(replicas / 2)
  /** When the node was started, or found the first other one after it had been alone. */
  let since = clock.now()
  map.on('joined', () => {
    if (map.others === 1) since = clock.now()
  })
  const recordsOf = (topic: Uint8Array, most?: number) => records.get(topic, most).map(fromCompact)

  function isWhole(topic: Uint8Array): boolean {
    const round = Math.max(INTERVAL, (map.others * 1_000) / RATE)
    // Records for which it has no room are on other nodes.
    if (clock.now() - since < ROUNDS * round || records.isFull(topic)) return false
    const closest = map.closest(topic, count)
    const farthest = closest.at(-1)
    const isFew = farthest === undefined || closest.length < count
    return isFew || compareDistance(topic, map.self.id, farthest.id) <= 0
  }

  return {
    isWhole,

    /** Some records of a topic; `undefined` if this node does not have all of them. */
    ofWhole(topic: Uint8Array): readonly NodeAddress[] | undefined {
      return isWhole(topic) ? recordsOf(topic, MOST_ANSWERED) : undefined
    },

    /** What this node knows about a key, without peers that have not yet proved to be members or are gone. */
    of(key: Key): Known {
      const topics = topicsOf(key)
      const all = topics.flatMap((topic) => recordsOf(topic))
      const peers = all.filter((address) => map.get(address) !== undefined)
      // The peers that were left out may be there after all, and be the only ones. Other swarm keys have other closest nodes.
      const isAll = topics.length === 1 && topics.every(isWhole)
      return { peers, isWhole: isAll && (peers.length > 0 || all.length === 0) }
    },
  }
}
