/** Node ids are hashes of addresses, so an attacker with many ports has many ids, and can choose those closest to any topic. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import HyperDHT from 'hyperdht'
import type { Key } from '../../lib/oci/key.ts'
import { LOOKUP } from '../../lib/swarm/dht/rpc.ts'
import { compareDistance } from '../../lib/swarm/node.ts'
import { topicOf } from '../../lib/swarm/topic.ts'
import { SWARM_KEY } from '../fixtures/credentials.ts'
import { never } from '../fixtures/layout.ts'
import { found, type Member, withMembers } from '../fixtures/members.ts'
import { joinAsMember, rpcOf } from '../fixtures/swarm.ts'
import { waitFor } from '../fixtures/wait.ts'
import { Attacker, idAt, request, sealing } from './datagrams.ts'

const HOST = '127.0.0.1'
const KEY = 'registry.example/team/app:1' as Key
/**
 * The ports to choose from, above those of other tests, and how many of the closest are chosen: twice as many as hold a
 * record.
 */
const [FIRST_PORT, LAST_PORT] = [34_000, 60_000]
const CHOSEN = 8
/** Ids in all. */
const IDS = 100

/** Attackers on the free ports whose ids are closest to the topic. */
async function startClosest(topic: Uint8Array): Promise<Attacker[]> {
  const nodes = Array.from({ length: LAST_PORT - FIRST_PORT }, (_, at) => FIRST_PORT + at).map((port) => ({
    port,
    id: idAt({ host: HOST, port }),
  }))
  nodes.sort((a, b) => compareDistance(topic, a.id, b.id))
  const attackers: Attacker[] = []
  for (const { port } of nodes) {
    if (attackers.length === CHOSEN) break
    const attacker = await Attacker.start(HOST, port).catch(() => undefined)
    if (attacker !== undefined) attackers.push(attacker)
  }
  return attackers
}

test('a hundred ids of one address, and the closest to a topic and to a member, take no place in a swarm', async () => {
  await withMembers(async (start) => {
    const a = await start([])
    const members = [a, await start([a]), await start([a])]
    // Next to a topic, and next to a member, where others look for the member's neighbours and for the way to connect to it.
    const topics = [topicOf(SWARM_KEY, KEY), HyperDHT.hash(Buffer.from(a.id, 'hex'))]
    const attackers = (await Promise.all(topics.map(startClosest))).flat()
    while (attackers.length < IDS) attackers.push(await Attacker.start())
    const ports = new Set(attackers.map(({ address }) => address.port))
    /** Makes each id known to each member, like nodes of the DHT with every request. */
    const introduce = async (seal: (datagram: Uint8Array) => Uint8Array) => {
      for (const attacker of attackers) {
        for (const { port } of members) {
          const id = idAt(attacker.address)
          for (const topic of topics) await attacker.send(seal(request(LOOKUP, topic, Buffer.alloc(0), { id })), port)
        }
      }
    }
    const meet = async (all: readonly Member[]) => {
      for (const one of all) {
        for (const other of all) {
          if (one === other) continue
          await waitFor('members are connected', () => one.members.has(other.port))
        }
      }
    }
    /** Checks that every member finds the content of every other one. */
    const pull = async (all: readonly Member[]) => {
      for (const one of all) {
        const peers = (await found(one.router.lookup(KEY, never))).map(({ port }) => port)
        const others = all.filter((other) => other !== one).map(({ port }) => port)
        assert.deepEqual(peers.sort(), others.sort())
      }
    }
    try {
      const refused = () => members.map(({ router }) => router.figures.refused)
      const before = refused()
      await introduce((datagram) => datagram)
      await waitFor('each has refused some', () => refused().every((count, at) => count > (before[at] ?? 0)))
      for (const { router } of members) router.advertise([KEY])
      await Promise.all(members.map(({ router }) => router.settled(never)))
      await meet(members)
      await pull(members)
      const newcomer = await start([a])
      newcomer.router.advertise([KEY])
      await newcomer.router.settled(never)
      members.push(newcomer)
      await introduce((datagram) => datagram)
      await meet(members)
      await waitFor('all are found', () =>
        pull(members).then(
          () => true,
          () => false,
        ),
      )
      for (const { router } of members) assert.equal(router.figures.neighbours, members.length - 1)
      // A node names nobody without the key as close to a topic.
      const dht = await joinAsMember(a.port)
      try {
        const named = async () => {
          const reply = await rpcOf(dht).ask({ host: HOST, port: a.port }, topics[0] ?? assert.fail(), 1_000)
          return (reply?.closer ?? []).filter(({ port }) => ports.has(port)).length
        }
        assert.equal(await named(), 0)
        assert.ok(attackers.every(({ received }) => received === 0))
        // A member that does the same is named. Even so it takes no place as long as it does not answer.
        await introduce(sealing())
        await waitFor('they are named', async () => (await named()) > 0)
        await waitFor('all are found', () =>
          pull(members).then(
            () => true,
            () => false,
          ),
        )
      } finally {
        await dht.destroy({ force: true })
      }
    } finally {
      await Promise.all(attackers.map((attacker) => attacker.close()))
    }
  })
})
