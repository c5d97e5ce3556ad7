import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Key } from '../../../../lib/oci/key.ts'
import { createDhtClient } from '../../../../lib/swarm/dht/client.ts'
import { NetworkMap } from '../../../../lib/swarm/dht/network-map.ts'
import type { DhtNode } from '../../../../lib/swarm/dht/rpc.ts'
import { createFinder } from '../../../../lib/swarm/lookup/finder.ts'
import { createDiscovery } from '../../../../lib/swarm/members/discovery.ts'
import type { NodeAddress } from '../../../../lib/swarm/node.ts'
import { topicOf } from '../../../../lib/swarm/topic.ts'
import { ManualClock } from '../../../doubles/manual-clock.ts'
import { LATENCY, SimulatedDht, seeded } from '../../../doubles/simulated-dht.ts'
import { never } from '../../../fixtures/layout.ts'

const SWARM_KEY = new Uint8Array(32).fill(1)
const OLD_KEY = new Uint8Array(32).fill(2)
const KEY = 'registry.example/team/app:1' as Key

/** A node that looks up keys among others, and functions with which others announce. */
async function finding(others: number, explore = true) {
  const clock = new ManualClock()
  const random = seeded(3)
  const dht = new SimulatedDht(clock, random)
  const self = dht.start(1)
  for (let port = 2; port < others + 2; port++) dht.start(port)
  const map = new NetworkMap(self)
  const client = createDhtClient(dht.rpc(self), map, clock)
  const discovery = createDiscovery(client, clock, random)
  const topicsOf = (key: Key) => [SWARM_KEY, OLD_KEY].map((swarmKey) => topicOf(swarmKey, key))
  const own = new Map<string, readonly NodeAddress[]>()
  const finder = createFinder({ dht: client, topicsOf, own: (topic) => own.get(topic.toString()), clock }, 8)
  const explored = discovery.explore([self], never)
  await clock.pass(explore ? 500 : 2)
  if (explore) await explored
  discovery.close()

  /** Announces the key for a member, on the closest nodes or on the given ones. */
  async function announce(door: NodeAddress, swarmKey = SWARM_KEY, at?: readonly DhtNode[]) {
    const rpc = dht.rpc(door)
    const topic = topicOf(swarmKey, KEY)
    const done = (at ?? dht.closest(topic, 8)).map(async (node) => {
      const token = (await rpc.ask(node, topic, 1_000))?.token
      if (token !== undefined) await rpc.store(node, [topic], token, 1_000)
    })
    await clock.pass(2 * LATENCY)
    await Promise.all(done)
  }

  /** The results of a lookup while the clock runs. */
  async function find(signal: AbortSignal = never, time = 1_500): Promise<number[]> {
    const ports: number[] = []
    const found = (async () => {
      for await (const { port } of finder.find(KEY, signal)) ports.push(port)
    })()
    await clock.pass(time)
    await found
    return ports.sort((a, b) => a - b)
  }
  const [topic, oldTopic] = [SWARM_KEY, OLD_KEY].map((swarmKey) => topicOf(swarmKey, KEY)) as [Uint8Array, Uint8Array]
  const closest = (of = topic) => dht.closest(of, 8)
  return { ...{ clock, dht, map, client, finder, announce, find, own, topic, oldTopic }, closest }
}

const door = (port: number): NodeAddress => ({ host: '10.0.0.1', port })

test('Finder finds what was announced under any of the swarm keys, each peer once, without this node', async () => {
  const { announce, find } = await finding(40)
  await announce(door(11))
  await announce(door(12), OLD_KEY)
  await announce(door(1))
  await announce(door(13), new Uint8Array(32).fill(3))
  assert.deepEqual(await find(), [11, 12])
})

test('Finder omits what this node announced under another id before its restart', async () => {
  const { announce, find } = await finding(40)
  await announce(door(1))
  assert.deepEqual(await find(), [])
  await announce(door(11))
  assert.deepEqual(await find(), [11])
})

test('Finder asks only the closest nodes, and returns the first answer after one round trip', async () => {
  const { announce, clock, dht, finder } = await finding(40)
  await announce(door(11))
  const { requests } = dht.traffic
  const first = finder.find(KEY, never)[Symbol.asyncIterator]().next()
  await clock.pass(LATENCY)
  assert.equal((await first).value?.port, 11)
  await clock.pass(100)
  assert.equal(dht.traffic.requests - requests, 2 * 8)
})

test('Finder finds what only one of the closest nodes holds, and what is held by nodes that its map does not know', async () => {
  const one = await finding(40)
  await one.announce(door(11), SWARM_KEY, one.closest().slice(7))
  assert.deepEqual(await one.find(), [11])
  const lost = await finding(60, false)
  assert.ok(lost.map.others < 20)
  await lost.announce(door(11))
  assert.deepEqual(await lost.find(), [11])
})

test('Finder asks nobody else if the closest node has all records, whatever the others have', async () => {
  const { announce, closest, dht, find, oldTopic } = await finding(40)
  for (const topic of [undefined, oldTopic]) for (const { port } of closest(topic).slice(0, 2)) dht.setWhole(port)
  await announce(door(11))
  await announce(door(12), undefined, closest().slice(1))
  const { requests } = dht.traffic
  assert.deepEqual(await find(), [11])
  assert.equal(dht.traffic.requests - requests, 2)
})

test('Finder also asks the others if the closest node does not answer at once', async () => {
  const { announce, clock, closest, dht, finder } = await finding(40)
  const [dead] = closest()
  for (const { port } of closest()) dht.setWhole(port)
  await announce(door(11))
  dht.kill(dead?.port ?? 0)
  const first = finder.find(KEY, never)[Symbol.asyncIterator]().next()
  await clock.pass(20 + 2 * LATENCY)
  assert.equal((await first).value?.port, 11)
})

test('Finder asks nobody if its own node has all records', async () => {
  const { dht, find, own, topic, oldTopic } = await finding(40)
  own.set(topic.toString(), [door(1), door(11)])
  own.set(oldTopic.toString(), [])
  const { requests } = dht.traffic
  assert.deepEqual(await find(), [11])
  assert.equal(dht.traffic.requests - requests, 0)
})

test('Finder makes one lookup of several for one key, and the abort of one caller does not end it for the others', async () => {
  const { announce, clock, dht, finder } = await finding(40)
  await announce(door(11))
  const { requests } = dht.traffic
  const stop = new AbortController()
  const collect = async (signal: AbortSignal) => {
    const ports: number[] = []
    for await (const { port } of finder.find(KEY, signal)) ports.push(port)
    return ports
  }
  const all = [collect(stop.signal), collect(never), collect(never)]
  stop.abort()
  await clock.pass(200)
  assert.deepEqual(await Promise.all(all), [[], [11], [11]])
  assert.equal(dht.traffic.requests - requests, 2 * 8, 'one lookup, under both swarm keys')
})

test('Finder remembers hits and misses for their times, from the beginning of the lookup', async () => {
  const { announce, clock, dht, find, finder } = await finding(40)
  /** How many lookups a step has caused, under both swarm keys. */
  const lookups = async (step: () => Promise<void>) => {
    const { requests } = dht.traffic
    await step()
    return (dht.traffic.requests - requests) / (2 * 8)
  }
  assert.equal(await lookups(async () => assert.deepEqual(await find(never, 100), [])), 1)
  await announce(door(11))
  assert.equal(await lookups(async () => assert.deepEqual(await find(never, 100), [])), 0)
  await clock.pass(150)
  assert.equal(await lookups(async () => assert.deepEqual(await find(never, 100), [11])), 1)
  const first = async () => {
    const { value } = await finder.find(KEY, never)[Symbol.asyncIterator]().next()
    assert.equal(value?.port, 11)
  }
  assert.equal(await lookups(first), 0)
})

test('Finder looks again for a caller that wants more than it remembers', async () => {
  const { announce, dht, find } = await finding(40)
  await announce(door(11))
  assert.deepEqual(await find(never, 100), [11])
  await announce(door(12))
  const { requests } = dht.traffic
  assert.deepEqual(await find(never, 100), [11, 12])
  assert.equal(dht.traffic.requests - requests, 2 * 8)
})

test('Finder waits for a dead node no longer than for late ones, and skips it when it is known to be lost', async () => {
  const { announce, clock, client, dht, closest, find, finder, map } = await finding(40)
  const [, dead] = closest()
  assert.ok(dead !== undefined)
  await announce(door(11))
  await announce(door(dead.port))
  dht.kill(dead.port)
  const started = clock.now()
  let ended = 0
  const looking = (async () => {
    const ports: number[] = []
    for await (const { port } of finder.find(KEY, never)) ports.push(port)
    ended = clock.now()
    return ports.sort((a, b) => a - b)
  })()
  await clock.pass(1_500)
  assert.deepEqual(
    await looking,
    [11, dead.port].sort((a, b) => a - b),
  )
  assert.ok(ended - started <= 100, `${ended - started} ms`)
  for (let attempt = 0; attempt < 3; attempt++) {
    const asked = client.ask(dead, dead.id)
    await clock.pass(4_100)
    await asked
  }
  assert.equal(map.isLost(dead), true)
  assert.deepEqual(await find(), [11])
})

test('Finder returns a lost node rather than none', async () => {
  const { announce, clock, client, dht, find } = await finding(40)
  await announce(door(11))
  const node = client.nodeAt(door(11))
  dht.kill(11)
  for (let attempt = 0; attempt < 3; attempt++) {
    const asked = client.ask(node, node.id)
    await clock.pass(4_100)
    await asked
  }
  assert.deepEqual(await find(), [11])
})

test('Finder returns an unknown address once a member answers there, and none that a record merely names', async () => {
  const { announce, dht, find, map } = await finding(40)
  dht.start(100)
  await announce(door(100))
  await announce(door(8_080))
  assert.equal(map.get(door(100)), undefined)
  assert.deepEqual(await find(never, 5_000), [100])
  dht.kill(100)
  for (let round = 0; round < 5; round++) assert.deepEqual(await find(never, 5_000), [100], 'it has answered once')
  const merely = await finding(40)
  await merely.announce(door(8_080))
  for (let round = 0; round < 5; round++) assert.deepEqual(await merely.find(never, 5_000), [])
})

test('Finder finds what the closest nodes had no room for, on the next ones', async () => {
  const { announce, closest, dht, find } = await finding(40)
  for (const { port } of closest()) dht.setFull(port, true)
  await announce(door(11), SWARM_KEY, dht.closest(topicOf(SWARM_KEY, KEY), 9).slice(8))
  assert.deepEqual(await find(), [11])
})

test('Finder ends for a signal that is aborted, and when it is closed', async () => {
  const { announce, clock, finder, find } = await finding(10)
  await announce(door(11))
  assert.deepEqual(await find(AbortSignal.abort(), 0), [])
  const looking = find(never, 0)
  finder.close()
  assert.deepEqual(await looking, [])
  assert.deepEqual(await find(never, 0), [])
  await clock.pass(2_000)
  assert.equal(clock.pending, 0)
})
