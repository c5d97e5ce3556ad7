import assert from 'node:assert/strict'
import { test } from 'node:test'
import b4a from 'b4a'
import fc from 'fast-check'
import { createDhtClient } from '../../../../lib/swarm/dht/client.ts'
import { type KnownNode, NetworkMap } from '../../../../lib/swarm/dht/network-map.ts'
import type { DhtRpc } from '../../../../lib/swarm/dht/rpc.ts'
import { createDiscovery } from '../../../../lib/swarm/members/discovery.ts'
import { compareDistance, prefixDistance, prefixOf } from '../../../../lib/swarm/node.ts'
import { ManualClock } from '../../../doubles/manual-clock.ts'
import { idOf, SimulatedDht, seeded } from '../../../doubles/simulated-dht.ts'
import { never } from '../../../fixtures/layout.ts'

const node = (port: number) => ({ host: '10.0.0.1', port, id: idOf({ host: '10.0.0.1', port }) })

/** Ids that are much alike, so that every bit matters. */
const id = fc
  .tuple(fc.constantFrom(0, 1, 0x80, 0xff), fc.integer({ min: 0, max: 255 }), fc.constantFrom(0, 1, 255))
  .map(([first, second, last]) => {
    const bytes = new Uint8Array(32)
    bytes.set([first, second])
    bytes[31] = last
    return bytes
  })

function recorded() {
  const map = new NetworkMap(node(1))
  const events: string[] = []
  const tell = (what: string) => (told: KnownNode) => events.push(`${what} ${told.port}`)
  for (const event of ['joined', 'left', 'recovered'] as const) map.on(event, tell(event))
  return { map, events }
}

test('NetworkMap knows a node once it has answered, not when others name it', () => {
  const { map, events } = recorded()
  map.named(node(2))
  assert.deepEqual([map.others, map.unexplored, map.closest(node(2).id, 5)], [0, 1, []])
  map.answered(node(2), 5)
  map.answered(node(2), 6)
  map.answered(node(1), 6)
  assert.deepEqual([map.others, map.unexplored], [1, 0])
  assert.deepEqual(events, ['joined 2', 'joined 1'])
  assert.equal(map.closest(node(2).id, 5)[0]?.port, 2)
})

test('NetworkMap closest gives what sorting all by their distance gives, also after some were lost', () => {
  const ids = fc.uniqueArray(id, { maxLength: 60, comparator: b4a.equals })
  fc.assert(
    fc.property(ids, fc.array(fc.nat(59)), id, fc.integer({ min: 0, max: 25 }), (all, lost, target, count) => {
      const { map } = recorded()
      const nodes = all.map((of, port) => ({ host: '10.0.0.2', port, id: of }))
      for (const one of nodes) map.answered(one, 0)
      for (const port of lost) map.lose({ ...node(port), host: '10.0.0.2' }, 1)
      const left = nodes.filter(({ port }) => !lost.includes(port))
      assert.deepEqual([...map.nodes()].map(({ port }) => port).sort(), left.map(({ port }) => port).sort())
      left.sort((a, b) => compareDistance(target, a.id, b.id))
      assert.deepEqual(
        map.closest(target, count).map(({ port }) => port),
        left.slice(0, count).map(({ port }) => port),
      )
    }),
  )
})

test('prefixDistance orders as the whole distance does, where it differs', () => {
  fc.assert(
    fc.property(id, id, id, (target, a, b) => {
      const difference = prefixDistance(prefixOf(target), prefixOf(a)) - prefixDistance(prefixOf(target), prefixOf(b))
      if (difference !== 0) assert.equal(Math.sign(difference), Math.sign(compareDistance(target, a, b)))
    }),
  )
})

test('NetworkMap counts simultaneous requests as one strike, and none that an answer has overtaken', () => {
  const { map, events } = recorded()
  map.answered(node(2), 100)
  map.silent(node(2), 50, 1_050)
  assert.equal(map.get(node(2))?.strikes, 0)
  for (const sentAt of [200, 210, 220]) map.silent(node(2), sentAt, 1_300)
  assert.equal(map.get(node(2))?.strikes, 1)
  map.answered(node(2), 1_400)
  for (const sentAt of [1_500, 3_000, 4_500]) map.silent(node(2), sentAt, sentAt + 1_000)
  assert.equal(map.get(node(2))?.strikes, 3)
  map.silent(node(2), 6_000, 7_000)
  assert.equal(map.get(node(2)), undefined)
  assert.equal(map.isLost(node(2)), true)
  assert.deepEqual(events, ['joined 2', 'recovered 2', 'left 2'])
})

test('NetworkMap lets lost nodes be asked again, less and less often, and forgets them in the end', () => {
  const { map } = recorded()
  map.answered(node(2), 0)
  map.lose(node(2), 0)
  const waits: number[] = []
  for (let now = 0, last = 0; now < 4_000_000; now += 1_000) {
    map.named(node(2))
    assert.equal(map.unexplored > 0, !map.isLost(node(2)))
    if (!map.isLost(node(2))) break
    for (const lost of map.dueLost(now, 10)) {
      waits.push((now - last) / 1_000)
      last = now
      map.silent(lost, now, now)
    }
  }
  assert.deepEqual(waits, [3, 6, 12, 24, 48, 96, ...new Array(19).fill(120)])
  assert.equal(map.isLost(node(2)), false)
})

test('NetworkMap keeps a bounded number of nodes, and of names', () => {
  const { map } = recorded()
  for (let port = 2; port < 20_000; port++) map.named(node(port))
  assert.equal(map.unexplored, 512)
  for (let port = 2; port < 11_000; port++) map.answered(node(port), 1)
  assert.equal(map.others, 10_000)
})

test('NetworkMap loses a node after enough requests and enough time, and one that still sends only when it has not answered for long', () => {
  const { map, events } = recorded()
  const known = map.answered(node(2), 0)
  assert.ok(known !== undefined)
  const silentUntil = (from: number, to: number) => {
    for (let at = from; at < to; at += 1_000) map.silent(node(2), at, at + 999)
  }
  silentUntil(10_000, 14_000)
  assert.equal(known.strikes, 4)
  map.answered(node(2), 14_500)
  silentUntil(15_000, 19_000)
  known.heardAt = 19_500
  silentUntil(20_000, 24_000)
  assert.deepEqual(events, ['joined 2', 'recovered 2'])
  silentUntil(24_000, 26_000)
  assert.deepEqual(events, ['joined 2', 'recovered 2', 'left 2'])
  map.answered(node(2), 30_000)
  for (let at = 31_000; at < 100_000; at += 1_000) {
    const again = map.get(node(2))
    if (again !== undefined) again.heardAt = at
    map.silent(node(2), at, at + 999)
  }
  assert.equal(events.at(-1), 'left 2')
})

async function discovering(nodes: number) {
  const clock = new ManualClock()
  const random = seeded(5)
  const dht = new SimulatedDht(clock, random)
  const self = dht.start(1)
  for (let port = 2; port <= nodes; port++) dht.start(port)
  const map = new NetworkMap(self)
  const client = createDhtClient(dht.rpc(self), map, clock)
  const discovery = createDiscovery(client, clock, random)
  return { clock, dht, map, client, discovery }
}

test('Discovery finds every node of the swarm from one of them, in all parts of the key space', async () => {
  const { clock, client, map, discovery } = await discovering(300)
  const explored = discovery.explore([client.nodeAt({ host: '10.0.0.1', port: 2 })], never)
  await clock.pass(200)
  await explored
  await clock.pass(30_000)
  assert.equal(map.others, 299)
  discovery.close()
})

test('Discovery asks a few at a time of a thousand names, and the living soon, however many are dead', async () => {
  const { clock, client, dht, map, discovery } = await discovering(1_000)
  for (let port = 2; port <= 300; port++) dht.kill(port)
  const names = Array.from({ length: 1_000 }, (_, index) => client.nodeAt({ host: '10.0.0.1', port: index + 1 }))
  const explored = discovery.explore(names, AbortSignal.timeout(60_000))
  await clock.pass(30_000)
  await explored
  assert.equal(map.others, 700)
  assert.ok(dht.traffic.mostInFlight <= 100, `${dht.traffic.mostInFlight} requests at a time`)
  assert.ok(dht.traffic.requests <= 3_500, `${dht.traffic.requests} requests`)
  discovery.close()
})

test('Discovery notices deaths and new nodes within seconds, and leaves no timer', async () => {
  const { clock, client, dht, map, discovery } = await discovering(60)
  const explored = discovery.explore([client.nodeAt({ host: '10.0.0.1', port: 2 })], never)
  await clock.pass(5_000)
  await explored
  for (const port of [10, 20, 30]) dht.kill(port)
  dht.start(100)
  await clock.pass(17_000)
  assert.deepEqual(
    [10, 20, 30].map((port) => map.get({ host: '10.0.0.1', port })),
    [undefined, undefined, undefined],
  )
  assert.ok(map.get({ host: '10.0.0.1', port: 100 }) !== undefined)
  assert.equal(map.others, 57)
  dht.start(20)
  await clock.pass(15_000)
  assert.ok(map.get({ host: '10.0.0.1', port: 20 }) !== undefined)
  discovery.close()
  await clock.pass(2_000)
  assert.equal(clock.pending, 0)
})

test('Discovery asks no more at rest than its rate, however large the swarm', async () => {
  const { clock, client, dht, discovery } = await discovering(300)
  const explored = discovery.explore([client.nodeAt({ host: '10.0.0.1', port: 2 })], never)
  await clock.pass(60_000)
  await explored
  const { requests } = dht.traffic
  await clock.pass(60_000)
  assert.ok(dht.traffic.requests - requests <= 60 * 20 + 20, `${dht.traffic.requests - requests} requests in a minute`)
  discovery.close()
})

test('DhtClient does not blame a node for an answer that nobody read while this process stood still', async () => {
  const { clock, client, dht, discovery, map } = await discovering(3)
  discovery.close()
  const known = map.answered(node(2), 0)
  assert.ok(known !== undefined)
  const rpc = dht.rpc(known)
  let late = 0
  const ask: DhtRpc['ask'] = (_to, _target, timeout) =>
    new Promise((resolve) => {
      clock.after(timeout + late, () => resolve(undefined))
    })
  const silent = createDhtClient({ ...rpc, ask }, map, clock)
  const askOnce = async () => {
    const asked = silent.ask(known, known.id)
    await clock.pass(10_000)
    await asked
  }
  late = 251
  await askOnce()
  assert.equal(known.strikes, 0)
  late = 249
  await askOnce()
  assert.equal(known.strikes, 1)
  assert.deepEqual(silent.figures, { requests: 2, silent: 2 })
  assert.deepEqual(client.figures, { requests: 0, silent: 0 })
})
