/**
 * Looks keys up in a cluster's DHT, with hyperdht alone, and prints who announced them. It runs inside of a node's network,
 * as a client that the DHT's members do not remember.
 */
import HyperDHT from 'hyperdht'
import type { Key } from '../../../lib/oci/key.ts'
import { topicOf } from '../../../lib/swarm/topic.ts'
import type { LookupOrder } from './lookup.ts'

const { swarmKey, nodes, keys }: LookupOrder = JSON.parse(process.argv[2] ?? '')
// The project's declarations leave the plain constructor out, since mirrors are made with another one.
const dht: HyperDHT = Reflect.construct(HyperDHT, [{ bootstrap: nodes, ephemeral: true }])
const found: Record<Key, string[]> = {}
for (const key of keys) {
  const doors = new Set<string>()
  for await (const { peers } of dht.lookup(topicOf(Buffer.from(swarmKey, 'hex'), key))) {
    for (const { relayAddresses } of peers) for (const { host, port } of relayAddresses) doors.add(`${host}:${port}`)
  }
  found[key] = [...doors].sort()
}
process.stdout.write(JSON.stringify(found))
await dht.destroy({ force: true })
