/**
 * Looks keys up in a cluster's DHT, with hyperdht alone, and prints who announced them. It runs inside of a node's network,
 * as a client that the DHT's members do not remember.
 */
import HyperDHT from 'hyperdht'
import type { Key } from '../../../lib/oci/key.ts'
import { SwarmSeal } from '../../../lib/swarm/datagram-seal.ts'
import { AnnouncementSeal } from '../../../lib/swarm/dht/seal.ts'
import { topicOf } from '../../../lib/swarm/realm.ts'
import { createSealedBackend, runtimeBackend, UDX } from '../../../lib/udx/index.ts'
import type { LookupOrder } from './lookup.ts'

const { swarmKey, nodes, keys }: LookupOrder = JSON.parse(process.argv[2] ?? '')
const datagrams = new SwarmSeal({ swarmKeys: [Buffer.from(swarmKey, 'hex')], onRefused: () => undefined })
const udx = new UDX({ backend: createSealedBackend(runtimeBackend, datagrams) })
// The project's declarations leave the plain constructor out, since mirrors are made with another one.
const dht: HyperDHT = Reflect.construct(HyperDHT, [{ bootstrap: nodes, ephemeral: true, udx }])
const seal = new AnnouncementSeal(Buffer.from(swarmKey, 'hex'))
const doorsOf = async (key: Key): Promise<readonly [Key, string[]]> => {
  const topic = topicOf(Buffer.from(swarmKey, 'hex'), key)
  const doors = new Set<string>()
  for await (const { peers } of dht.lookup(topic)) {
    for (const { publicKey, relayAddresses } of peers) {
      const door = seal.open(topic, publicKey, relayAddresses)
      if (door === undefined) throw new Error(`somebody without the swarm key announced ${key}`)
      doors.add(`${door.host}:${door.port}`)
    }
  }
  return [key, [...doors].sort()]
}
const found = await Promise.all(keys.map(doorsOf))
process.stdout.write(JSON.stringify(Object.fromEntries(found)))
await dht.destroy({ force: true })
