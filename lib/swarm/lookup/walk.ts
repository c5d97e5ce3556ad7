import { addressOf } from '../../platform/address.ts'
import { type Clock, systemClock } from '../../platform/clock.ts'
import type { TableNode, TopicRecord } from '../dht/table.ts'
import type { Contacts } from '../members/contacts.ts'
import { compareDistance } from '../members/distance.ts'

export interface WalkOptions {
  /** How many of the closest nodes are asked. */
  readonly replicas: number
  /** How many are asked at a time. */
  readonly parallel?: number
  /** Milliseconds without an answer after which the nodes that are still asked are not waited for, if half have answered. */
  readonly late?: number
}

/** The closest nodes of a picture that is true hold the record, all of them: the second half is for when it is not. */
const PARALLEL = 4
/** Many round trips within a cluster; a node that needs longer is busy or dead, and others hold the same. */
const LATE = 60
/** So many times longer while nothing has been found: then the late ones are all there is. */
const PATIENCE = 5

/**
 * Asks the nodes closest to a topic for its records, the closest first. It begins at those that the map has; should an
 * answer name closer ones, they are asked too. Ends when the closest have answered, but for late ones.
 *
 * @param onRecords takes what one node has; says whether anything has been found by now
 */
export async function walk(
  contacts: Contacts,
  topic: Uint8Array,
  onRecords: (records: readonly TopicRecord[]) => boolean,
  { replicas, parallel = PARALLEL, late = LATE }: WalkOptions,
  clock: Clock = systemClock,
): Promise<void> {
  const { map } = contacts
  // Twice as many, to have others for those that do not answer.
  const closest = map.closest(topic, 2 * replicas)
  const near = closest.slice(0, replicas)
  // A silent node is passed over; but where most are silent, they are busy, and nobody else holds the record.
  const areBusy = near.filter(({ strikes }) => strikes > 0).length * 2 > near.length
  let nodes: TableNode[] = areBusy ? closest : closest.filter(({ strikes }) => strikes === 0)
  const seen = new Set(nodes.map(addressOf))
  const asked = new Set<TableNode>()
  let answers = 0
  let isFound = false
  let underWay = 0
  let over = false
  const end = Promise.withResolvers<void>()
  let cancel = (): void => undefined
  const finish = () => {
    over = true
    cancel()
    end.resolve()
  }

  const proceed = () => {
    if (over) return
    for (const node of nodes.slice(0, replicas)) {
      if (underWay >= parallel) break
      if (!asked.has(node)) void visit(node)
    }
    if (underWay === 0) finish()
  }
  const visit = async (node: TableNode) => {
    asked.add(node)
    underWay++
    const reply = await contacts.ask(node, topic)
    underWay--
    if (over) return
    if (reply === undefined) {
      nodes = nodes.filter((other) => other !== node)
      proceed()
      return
    }
    answers++
    isFound = onRecords(reply.records)
    for (const address of reply.closer) learn(address)
    if (answers * 2 >= Math.min(replicas, nodes.length)) {
      cancel()
      cancel = clock.after(isFound ? late : late * PATIENCE, finish)
    }
    proceed()
  }
  const learn = (address: { readonly host: string; readonly port: number }) => {
    const name = addressOf(address)
    if (seen.has(name) || map.isLost(address)) return
    seen.add(name)
    const known = map.get(address)
    if (known !== undefined && known.strikes > 0) return
    const node = known ?? contacts.nodeAt(address)
    const farthest = nodes[replicas - 1]
    if (farthest !== undefined && compareDistance(topic, node.id, farthest.id) >= 0) return
    nodes = [...nodes, node].sort((a, b) => compareDistance(topic, a.id, b.id))
  }
  proceed()
  await end.promise
}
