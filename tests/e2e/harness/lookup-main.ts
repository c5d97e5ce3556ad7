/**
 * Looks keys up in a cluster's DHT, and prints who announced them. It runs inside a node's network, as a client that the DHT's
 * members do not remember: it asks each of the given members.
 */
import HyperDHT from 'hyperdht'
import { silentLogger } from '../../../lib/observe/log.ts'
import type { Key } from '../../../lib/oci/key.ts'
import { addressOf } from '../../../lib/platform/address.ts'
import { createSealedBackend, createSwarmSeal } from '../../../lib/swarm/datagram-seal.ts'
import { topicOf } from '../../../lib/swarm/topic.ts'
import { runtimeBackend, UDX } from '../../../lib/udx/index.ts'
import { rpcOf } from '../../fixtures/swarm.ts'
import type { LookupOrder } from './lookup.ts'

/** How long one member may take to answer, in milliseconds. */
const TIMEOUT = 2_000

const { swarmKey, nodes, keys }: LookupOrder = JSON.parse(process.argv[2] ?? '')
const datagrams = createSwarmSeal(silentLogger, [Buffer.from(swarmKey, 'hex')])
const udx = new UDX({ backend: createSealedBackend(runtimeBackend, datagrams) })
// The project's declarations omit the plain constructor, since mirrors use another one.
const dht: HyperDHT = Reflect.construct(HyperDHT, [{ bootstrap: nodes, ephemeral: true, udx }])
const rpc = rpcOf(dht)
const doorsOf = async (key: Key): Promise<readonly [Key, string[]]> => {
  const topic = topicOf(Buffer.from(swarmKey, 'hex'), key)
  const replies = await Promise.all(nodes.map((node) => rpc.ask(node, topic, TIMEOUT)))
  const doors = new Set(replies.flatMap((reply) => reply?.records.map(addressOf) ?? []))
  return [key, [...doors].sort()]
}
const found = await Promise.all(keys.map(doorsOf))
process.stdout.write(JSON.stringify(Object.fromEntries(found)))
await dht.destroy({ force: true })
