import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger } from '../../../../lib/observe/log.ts'
import type { Key } from '../../../../lib/oci/key.ts'
import { NetworkMap } from '../../../../lib/swarm/dht/network-map.ts'
import { createRecordStore } from '../../../../lib/swarm/dht/record-store.ts'
import { createOwnRecords } from '../../../../lib/swarm/lookup/known.ts'
import { compact } from '../../../../lib/swarm/node.ts'
import { topicOf } from '../../../../lib/swarm/topic.ts'
import { ManualClock } from '../../../doubles/manual-clock.ts'
import { SimulatedDht, seeded } from '../../../doubles/simulated-dht.ts'

const KEY = 'registry.example/team/app:1' as Key
/** Milliseconds after which a node of a small swarm has got all records that it must keep. */
const MINUTE = 60_000
const door = (port: number) => ({ host: '10.0.0.1', port })

/** The records of the nth closest node, among others that it all knows. */
function keeping(others: number, place = 0, swarmKeys = 1, mostOfTopic = 100) {
  const clock = new ManualClock()
  const dht = new SimulatedDht(clock, seeded(1))
  const topicsOf = (key: Key) =>
    Array.from({ length: swarmKeys }, (_, at) => topicOf(new Uint8Array(32).fill(at + 1), key))
  const [topic] = topicsOf(KEY) as [Uint8Array]
  for (let port = 1; port < others + 2; port++) dht.start(port)
  const self = dht.closest(topic, others + 1)[place] ?? assert.fail('so many are there')
  const map = new NetworkMap(self)
  for (const node of dht.alive) map.answered(node, 0)
  const records = createRecordStore({ log: silentLogger, clock }, { mostOfTopic })
  const own = createOwnRecords({ map, records, topicsOf, clock }, 8)
  return { clock, map, records, own, topic, add: (port: number) => records.add(topic, compact(door(port))) }
}

test('OwnRecords are complete after a minute, on the closer half of the nodes that must hold a topic', async () => {
  for (const [others, place, expected] of [
    [0, 0, true],
    [2, 2, true],
    [40, 0, true],
    [40, 3, true],
    [40, 4, false],
    [40, 20, false],
  ] as const) {
    const { clock, own, topic } = keeping(others, place)
    assert.equal(own.isWhole(topic), false, 'it has just been started')
    await clock.pass(MINUTE)
    assert.equal(own.isWhole(topic), expected, `place ${place} of ${others}`)
    assert.deepEqual(own.ofWhole(topic), expected ? [] : undefined)
  }
})

test('OwnRecords are complete a minute after a node that was alone has found the others', async () => {
  const { clock, map, own, topic } = keeping(20)
  const others = [...map.nodes()].filter((node) => node.port !== map.self.port)
  for (const node of others) map.lose(node, clock.now())
  await clock.pass(5 * MINUTE)
  assert.equal(own.isWhole(topic), true, 'it is alone')
  for (const node of others) map.answered(node, clock.now())
  assert.equal(own.isWhole(topic), false, 'others have not sent their records yet')
  await clock.pass(MINUTE)
  assert.equal(own.isWhole(topic), true)
})

test('OwnRecords take longer to be complete in a swarm so large that nodes hear of a restart late', async () => {
  const { clock, own, topic } = keeping(600)
  await clock.pass(2 * MINUTE)
  assert.equal(own.isWhole(topic), false)
  await clock.pass(2 * MINUTE)
  assert.equal(own.isWhole(topic), true)
})

test('OwnRecords return the members that announced a key, and are not complete if none of them is known', async () => {
  const { clock, own, add, map } = keeping(20)
  await clock.pass(MINUTE)
  assert.deepEqual(own.of(KEY), { peers: [], isWhole: true })
  add(7_777)
  assert.deepEqual(own.of(KEY), { peers: [], isWhole: false })
  const [member] = [...map.nodes()].filter(({ port }) => port !== map.self.port)
  add(member?.port ?? 0)
  assert.deepEqual(own.of(KEY), { peers: [door(member?.port ?? 0)], isWhole: true })
  if (member !== undefined) map.lose(member, clock.now())
  assert.deepEqual(own.of(KEY), { peers: [], isWhole: false })
})

test('OwnRecords are not complete if there is no room for more', async () => {
  const { clock, own, topic, add } = keeping(20, 0, 1, 1)
  await clock.pass(MINUTE)
  assert.equal(own.isWhole(topic), true)
  add(2)
  assert.equal(own.isWhole(topic), false)
})

test('OwnRecords return what was announced under any swarm key, and are not complete if there are several', async () => {
  const { clock, own, add, map } = keeping(20, 0, 2)
  await clock.pass(MINUTE)
  const [member] = [...map.nodes()].filter(({ port }) => port !== map.self.port)
  add(member?.port ?? 0)
  assert.deepEqual(own.of(KEY), { peers: [door(member?.port ?? 0)], isWhole: false })
})
