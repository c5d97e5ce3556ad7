import { addressOf } from '../../platform/address.ts'
import { type Clock, systemClock } from '../../platform/clock.ts'
import type { DhtClient } from '../dht/client.ts'
import type { DhtNode } from '../dht/rpc.ts'
import { compareDistance, type NodeAddress } from '../node.ts'

/** How many nodes are asked at a time. If the map is right, each of the closest nodes holds the record, so four are plenty. */
const PARALLEL = 4
/** Milliseconds for which only the closest node is asked. It usually has all records, so no other node has to be asked. */
const ALONE = 20
/**
 * Milliseconds without an answer after which the walk stops waiting, once half of the nodes have answered. It is many round
 * trips within a cluster: a node that needs longer is busy or dead, and others hold the same records.
 */
const LATE = 60
/** It waits this many times longer while nothing has been found, because then only late nodes are left. */
const PATIENCE = 5

/**
 * Asks the nodes closest to a topic for its records, the closest first. It begins with nodes of the map; if an answer names
 * closer nodes, it asks them too. It ends when a node with all records has answered, or when the closest nodes have, except
 * late ones.
 *
 * @param replicas how many of the closest nodes to ask
 * @param onRecords takes the records of one node; returns whether anything has been found by now
 */
export async function findRecords(
  dht: DhtClient,
  topic: Uint8Array,
  replicas: number,
  onRecords: (records: readonly NodeAddress[]) => boolean,
  clock: Clock = systemClock,
): Promise<void> {
  const { map } = dht
  // Twice as many, to replace nodes that do not answer or have no room.
  const closest = map.closest(topic, 2 * replicas)
  const near = closest.slice(0, replicas)
  // Silent nodes are skipped, unless most are silent: then they are busy, and no other node holds the record.
  const areBusy = near.filter(({ strikes }) => strikes > 0).length * 2 > near.length
  let nodes: DhtNode[] = areBusy ? closest : closest.filter(({ strikes }) => strikes === 0)
  const seen = new Set(nodes.map(addressOf))
  const asked = new Set<DhtNode>()
  let wanted = replicas
  let answers = 0
  let isFound = false
  let underWay = 0
  let isOver = false
  let parallel = areBusy ? PARALLEL : 1
  const end = Promise.withResolvers<void>()
  let cancel = clock.after(ALONE, () => askMore())
  const finish = () => {
    isOver = true
    cancel()
    end.resolve()
  }
  const askMore = () => {
    parallel = PARALLEL
    proceed()
  }

  const proceed = () => {
    if (isOver) return
    for (const node of nodes.slice(0, wanted)) {
      if (underWay >= parallel) break
      if (!asked.has(node)) void visit(node)
    }
    if (underWay === 0) finish()
  }
  const visit = async (node: DhtNode) => {
    asked.add(node)
    underWay++
    const reply = await dht.ask(node, topic)
    underWay--
    if (isOver) return
    if (reply === undefined) {
      nodes = nodes.filter((other) => other !== node)
      askMore()
      return
    }
    answers++
    isFound = onRecords(reply.records)
    if (reply.isWhole) return finish()
    // A record for which it had no room is one node farther away.
    if (reply.isFull && wanted < 2 * replicas) wanted++
    for (const address of reply.closer) learn(address)
    if (answers * 2 >= Math.min(replicas, nodes.length)) {
      cancel()
      cancel = clock.after(isFound ? LATE : LATE * PATIENCE, finish)
    }
    askMore()
  }
  const learn = (address: NodeAddress) => {
    const name = addressOf(address)
    if (seen.has(name) || map.isLost(address)) return
    seen.add(name)
    const known = map.get(address)
    if (known !== undefined && known.strikes > 0) return
    const node = known ?? dht.nodeAt(address)
    const farthest = nodes[wanted - 1]
    if (farthest !== undefined && compareDistance(topic, node.id, farthest.id) >= 0) return
    nodes = [...nodes, node].sort((a, b) => compareDistance(topic, a.id, b.id))
  }
  proceed()
  await end.promise
}
