import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { silentLogger } from '../../../../lib/observe/log.ts'
import type { Key } from '../../../../lib/oci/key.ts'
import { type AnnouncerOptions, createAnnouncer, REPLICAS } from '../../../../lib/swarm/announce/announcer.ts'
import { createDhtClient } from '../../../../lib/swarm/dht/client.ts'
import { NetworkMap } from '../../../../lib/swarm/dht/network-map.ts'
import { MOST_TOPICS } from '../../../../lib/swarm/dht/rpc.ts'
import { createDiscovery } from '../../../../lib/swarm/members/discovery.ts'
import { ManualClock } from '../../../doubles/manual-clock.ts'
import { LATENCY, SimulatedDht, seeded } from '../../../doubles/simulated-dht.ts'
import { never } from '../../../fixtures/layout.ts'
import { createLogRecorder } from '../../../fixtures/log.ts'

const SELF = 1
const key = (name: string | number): Key => `${name}` as Key
const keys = (count: number): Key[] => Array.from({ length: count }, (_, index) => key(index))
const topicOf = (of: Key): Uint8Array => createHash('sha256').update(of).digest()

/** A node among `others` in a simulated DHT, with all of them in its map. */
async function simulation(others: number, options: AnnouncerOptions = {}, seed = 1) {
  const clock = new ManualClock()
  const random = seeded(seed)
  const dht = new SimulatedDht(clock, random)
  const self = dht.start(SELF)
  for (let port = 2; port < others + 2; port++) dht.start(port)
  const map = new NetworkMap(self)
  const client = createDhtClient(dht.rpc(self), map, clock)
  const discovery = createDiscovery(client, clock, random)
  const { log, lines } = createLogRecorder()
  const announcer = createAnnouncer({ log, dht: client, topicOf, clock, random }, options)
  const explored = discovery.explore([self], never)
  await clock.pass(1_000)
  await explored
  return {
    clock,
    dht,
    map,
    announcer,
    lines,
    /** The nodes that hold a key. */
    holders: (of: Key) => dht.holders(topicOf(of), SELF),
    /** The nodes that must hold it. */
    closest: (of: Key) => dht.closest(topicOf(of), REPLICAS).map(({ port }) => port),
    isSettled: () => announcer.figures.waiting === 0,
    close() {
      announcer.close()
      discovery.close()
    },
  }
}

type Simulation = Awaited<ReturnType<typeof simulation>>

async function simulated(
  others: number,
  options: AnnouncerOptions,
  use: (simulation: Simulation) => Promise<void>,
): Promise<void> {
  const made = await simulation(others, options)
  try {
    await use(made)
  } finally {
    made.close()
  }
}

/** Fails unless each of these keys is on all of its closest living nodes. */
function assertPlaced({ holders, closest }: Simulation, announced: readonly Key[]): void {
  for (const of of announced) {
    const held = new Set(holders(of))
    assert.deepEqual(
      closest(of).filter((port) => !held.has(port)),
      [],
      `${of} is missing`,
    )
  }
}

test('Announcer stores each key on the nodes closest to its topic, and on no others', async () => {
  await simulated(40, {}, async (simulation) => {
    const { announcer, clock, dht, holders, closest } = simulation
    announcer.advertise(keys(200))
    announcer.advertise(keys(10))
    assert.equal(announcer.figures.keys, 200)
    await clock.pass(2_000)
    for (const of of keys(200))
      assert.deepEqual(
        holders(of),
        closest(of).sort((a, b) => a - b),
      )
    assert.equal(announcer.figures.waiting, 0)
    assert.equal(dht.traffic.stored, 200 * REPLICAS)
  })
})

test('Announcer needs one token of each node for all keys, no walk, and one request for many keys', async () => {
  await simulated(40, {}, async ({ announcer, clock, dht }) => {
    const before = dht.traffic.requests
    announcer.advertise(keys(500))
    await clock.pass(1_500)
    assert.equal(dht.traffic.stored, 500 * REPLICAS)
    // Neighbours in the key space go to the same nodes, and to one or two more.
    const groups = Math.ceil(500 / MOST_TOPICS)
    const requests = dht.traffic.requests - before
    assert.ok(requests <= groups * 2 * REPLICAS + 41 + 30, `${requests} requests`)
  })
})

test('Announcer announces its first key at once, and later ones that come within a tenth of a second together', async () => {
  await simulated(REPLICAS - 1, {}, async ({ announcer, clock, dht }) => {
    announcer.advertise([key('first')])
    await clock.pass(50)
    assert.equal(dht.traffic.stored, REPLICAS)
    const before = dht.traffic.requests
    for (const name of ['a', 'b', 'c']) {
      announcer.advertise([key(name)])
      await clock.pass(25)
    }
    await clock.pass(100)
    assert.equal(dht.traffic.stored, 4 * REPLICAS)
    assert.equal(dht.traffic.requests - before, REPLICAS)
  })
})

test('Announcer withdraws everything in few requests', async () => {
  await simulated(40, {}, async ({ announcer, clock, dht }) => {
    announcer.advertise(keys(500))
    await clock.pass(1_500)
    const before = dht.traffic.requests
    announcer.withdraw(keys(500))
    await clock.pass(100)
    assert.equal(dht.traffic.removed, 500 * REPLICAS)
    assert.ok(dht.traffic.requests - before < 500 * 4, `${dht.traffic.requests - before} requests`)
  })
})

test('Announcer stores on all nodes if there are fewer than copies, and on itself if it is alone', async () => {
  for (const others of [0, 3]) {
    await simulated(others, {}, async (simulation) => {
      simulation.announcer.advertise(keys(3))
      await simulation.clock.pass(100)
      assertPlaced(simulation, keys(3))
      assert.equal(simulation.isSettled(), true)
    })
  }
})

test('Announcer withdraws a key from everywhere within two round trips, and leaves the others', async () => {
  await simulated(40, {}, async (simulation) => {
    const { announcer, clock, holders } = simulation
    announcer.advertise(keys(50))
    await clock.pass(1_000)
    announcer.withdraw([key(7), key('unknown')])
    await clock.pass(2 * LATENCY + 5)
    assert.deepEqual(holders(key(7)), [])
    assert.equal(announcer.figures.keys, 49)
    assertPlaced(
      simulation,
      keys(50).filter((of) => of !== key(7)),
    )
  })
})

test('Announcer withdraws a key in the middle of its announcement, and announces one that comes back', async () => {
  await simulated(40, {}, async (simulation) => {
    const { announcer, clock, holders } = simulation
    announcer.advertise(keys(20))
    await clock.pass(LATENCY * 1.5)
    announcer.withdraw([key(1), key(2)])
    announcer.advertise([key(2)])
    await clock.pass(1_000)
    assert.deepEqual(holders(key(1)), [])
    assertPlaced(simulation, [key(0), key(2), key(3)])
  })
})

test('Announcer announces a new key soon while ten thousand others wait, and withdraws at once', async () => {
  await simulated(40, { window: [4, 4] }, async (simulation) => {
    const { announcer, clock } = simulation
    announcer.advertise([key('old')])
    await clock.pass(1_000)
    announcer.advertise(keys(10_000))
    await clock.pass(200)
    announcer.advertise([key('new')])
    announcer.withdraw([key('old')])
    await clock.pass(50)
    assert.deepEqual(simulation.holders(key('old')), [])
    await clock.pass(100)
    assertPlaced(simulation, [key('new')])
    assert.ok(announcer.figures.waiting > 1_000, `${announcer.figures.waiting} wait`)
  })
})

test('Announcer announces a new key, and withdraws one, while its window is full of requests to nodes that have just died', async () => {
  await simulated(40, { window: [8, 8] }, async (simulation) => {
    const { announcer, clock, dht, holders, closest } = simulation
    announcer.advertise([key('old')])
    await clock.pass(1_000)
    const dead = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    for (const port of dead) dht.kill(port)
    announcer.advertise(keys(50))
    await clock.pass(300)
    const { stored } = dht.traffic
    await clock.pass(100)
    assert.equal(dht.traffic.stored, stored, 'nothing goes on')
    announcer.advertise([key('new')])
    announcer.withdraw([key('old')])
    await clock.pass(30)
    // The neighbours that the node knows; dead ones are replaced later.
    assert.ok(holders(key('new')).length > 0)
    assert.ok(holders(key('new')).every((port) => closest(key('new')).includes(port)))
    assert.deepEqual(holders(key('old')), [])
  })
})

test('Announcer has no more running requests than its window, and a reserve for the last few', async () => {
  await simulated(40, { window: [16, 16] }, async ({ announcer, clock, dht }) => {
    dht.traffic.mostInFlight = 0
    announcer.advertise(keys(300))
    await clock.pass(1_000)
    // Discovery asks as well.
    assert.ok(dht.traffic.mostInFlight <= 16 + 16 + 4, `${dht.traffic.mostInFlight} under way`)
  })
})

test('Announcer announces everything again within a period, evenly', async () => {
  const refreshPeriod = 100_000
  await simulated(20, { refreshPeriod }, async (simulation) => {
    const { announcer, clock, dht } = simulation
    announcer.advertise(keys(400))
    await clock.pass(20_000)
    const before = dht.traffic.requests
    for (let part = 1; part <= 10; part++) {
      const { stored } = dht.traffic
      await clock.pass(refreshPeriod / 10)
      const sent = dht.traffic.stored - stored
      // About a tenth of the keys.
      const share = (400 * REPLICAS) / 10
      assert.ok(sent > share / 2 && sent < share * 2, `${sent} records in part ${part}`)
    }
    // Keys that were due together were sent together; the rest are requests for tokens and of discovery.
    const requests = dht.traffic.requests - before
    assert.ok(requests < 400 * 4, `${requests} requests`)
    assert.ok(announcer.figures.refreshed >= 400)
    assert.ok(announcer.figures.lag < 1_000, `${announcer.figures.lag} ms late`)
  })
})

test('Announcer soon sends a node again what it has forgotten, but not all the time to one that starts again and again', async () => {
  const refreshPeriod = 3_600_000
  await simulated(20, { refreshPeriod, recordLife: 2 * refreshPeriod }, async (simulation) => {
    const { announcer, clock, dht, holders } = simulation
    announcer.advertise(keys(200))
    await clock.pass(5_000)
    const { stored } = dht.traffic
    const concerned = keys(200).filter((of) => holders(of).includes(3))
    // It restarts so fast that nobody notices its silence.
    dht.start(3)
    assert.equal(keys(200).filter((of) => holders(of).includes(3)).length, 0)
    await clock.pass(100_000)
    assertPlaced(simulation, keys(200))
    assert.equal(dht.traffic.stored - stored, concerned.length, 'nothing else was sent')
    dht.start(3)
    await clock.pass(15_000)
    const before = dht.traffic.stored
    dht.start(3)
    await clock.pass(10_000)
    assert.equal(dht.traffic.stored, before)
    // It has all records again before it says that it has.
    await clock.pass(45_000)
    assertPlaced(simulation, keys(200))
  })
})

test('Announcer turns to the next nodes if the closest have no room, says so, and comes back when they have room', async () => {
  const refreshPeriod = 60_000
  await simulated(40, { refreshPeriod }, async (simulation) => {
    const { announcer, clock, dht, closest, holders, isSettled, lines } = simulation
    const next = dht.closest(topicOf(key(0)), REPLICAS + 2).map(({ port }) => port)
    const full = closest(key(0)).slice(0, 2)
    for (const port of full) dht.setFull(port, true)
    announcer.advertise([key(0)])
    await clock.pass(1_000)
    const sorted = (ports: readonly number[]) => [...ports].sort((a, b) => a - b)
    assert.deepEqual(holders(key(0)), sorted(next.filter((port) => !full.includes(port))))
    assert.ok(isSettled())
    assert.equal(announcer.figures.turnedAway, 2)
    assert.deepEqual(
      lines.map(({ level, fields }) => [level, fields.key]),
      [['warn', key(0)]],
    )
    for (const port of full) dht.setFull(port, false)
    await clock.pass(2 * refreshPeriod)
    assertPlaced(simulation, [key(0)])
    assert.equal(announcer.figures.turnedAway, 2)
  })
})

test('Announcer asks twice as many nodes as it needs at most, and waits for the next turn when all are full', async () => {
  await simulated(40, { refreshPeriod: 600_000 }, async ({ announcer, clock, dht, isSettled, closest }) => {
    for (const { port } of dht.alive) dht.setFull(port, true)
    announcer.advertise([key(0)])
    await clock.pass(20_000)
    assert.equal(announcer.figures.turnedAway, 8)
    assert.ok(!isSettled())
    for (const { port } of dht.alive) dht.setFull(port, false)
    await clock.pass(660_000)
    assert.ok(isSettled())
    assert.deepEqual(
      dht.holders(topicOf(key(0)), SELF),
      [...closest(key(0))].sort((a, b) => a - b),
    )
  })
})

test('Announcer soon sends a node that joins the keys that it is closest to, and nothing else', async () => {
  await simulated(40, {}, async (simulation) => {
    const { announcer, clock, dht, closest } = simulation
    announcer.advertise(keys(300))
    await clock.pass(3_000)
    const { stored } = dht.traffic
    dht.start(500)
    await clock.pass(12_000)
    const concerned = keys(300).filter((of) => closest(of).includes(500))
    assert.ok(concerned.length > 0)
    assertPlaced(simulation, keys(300))
    assert.equal(dht.traffic.stored - stored, concerned.length)
  })
})

test('Announcer soon replaces a node that died, and sends nothing else', async () => {
  await simulated(40, {}, async (simulation) => {
    const { announcer, clock, dht, holders } = simulation
    announcer.advertise(keys(300))
    await clock.pass(3_000)
    const { stored } = dht.traffic
    const concerned = keys(300).filter((of) => holders(of).includes(5))
    dht.kill(5)
    await clock.pass(18_000)
    assertPlaced(simulation, keys(300))
    assert.equal(dht.traffic.stored - stored, concerned.length)
  })
})

test('Announcer does not wait for a node that has just died', async () => {
  await simulated(40, {}, async (simulation) => {
    const { announcer, clock, dht } = simulation
    const dead = dht.closest(topicOf(key('a')), 1)[0]?.port ?? 0
    dht.kill(dead)
    announcer.advertise([key('a')])
    await clock.pass(20)
    assert.equal(simulation.holders(key('a')).length, REPLICAS - 1)
    // The only request to it has to be given up.
    await clock.pass(1_000)
    assert.equal(simulation.isSettled(), true)
    await clock.pass(7_000)
    assertPlaced(simulation, [key('a')])
  })
})

test('Announcer settled waits for running requests, and throws when its signal aborts', async () => {
  await simulated(10, {}, async ({ announcer, clock }) => {
    await announcer.settled(never)
    announcer.advertise(keys(1))
    await assert.rejects(announcer.settled(AbortSignal.abort(new Error('too late'))), /too late/)
    const stop = new AbortController()
    const waiting = announcer.settled(stop.signal)
    stop.abort(new Error('not in time'))
    await assert.rejects(waiting, /not in time/)
    const settled = announcer.settled(never)
    await clock.pass(100)
    await settled
  })
})

test('Announcer close starts nothing new, ends waits and leaves no timer', async () => {
  const { announcer, clock, dht, close } = await simulation(10)
  announcer.advertise(keys(100))
  const settled = announcer.settled(never)
  close()
  await settled
  await clock.pass(REST)
  const { requests } = dht.traffic
  announcer.advertise([key('late')])
  announcer.withdraw([key(0)])
  await clock.pass(60_000)
  assert.equal(dht.traffic.requests, requests)
  assert.equal(clock.pending, 0)
  assert.equal(announcer.figures.keys, 0)
})

/** Longer than any request. */
const REST = 5_000

test('Announcer settles even if all nodes announce at once on a machine that is too slow, and considers none dead', async () => {
  const clock = new ManualClock()
  const random = seeded(7)
  const dht = new SimulatedDht(clock, random)
  const nodes = Array.from({ length: 24 }, (_, index) => dht.start(index + 1))
  const left: number[] = []
  const swarm = nodes.map((self) => {
    const map = new NetworkMap(self)
    const client = createDhtClient(dht.rpc(self), map, clock)
    const discovery = createDiscovery(client, clock, random)
    map.on('left', ({ port }) => left.push(port))
    return {
      self,
      client,
      discovery,
      announcer: createAnnouncer({ log: silentLogger, dht: client, topicOf, clock, random }),
    }
  })
  const explored = Promise.all(
    swarm.map(({ discovery, self }) => discovery.explore([self, ...nodes.slice(0, 1)], never)),
  )
  await clock.pass(2_000)
  await explored
  // 200 requests a second for all of them together: fewer than their first windows let them send at once.
  dht.serviceTime = 1_000 / 200
  const owned = (index: number) => Array.from({ length: 80 }, (_, at) => key(`${index}/${at}`))
  for (const [index, { announcer }] of swarm.entries()) announcer.advertise(owned(index))
  const least = (24 * 10 * REPLICAS) / 200
  await clock.pass(least * 2_000)
  assert.deepEqual(
    swarm.map(({ announcer }) => announcer.figures.waiting),
    swarm.map(() => 0),
  )
  assert.deepEqual(left, [])
  const share = dht.traffic.silent / dht.traffic.requests
  assert.ok(share < 0.3, `${share} of the requests were not answered in time`)
  for (const { announcer, discovery } of swarm) {
    announcer.close()
    discovery.close()
  }
})

test('Announcer ends with exactly the wanted keys on their closest living nodes, whatever happens in between', async () => {
  const name = fc.nat(11).map(key)
  const port = fc.integer({ min: 2, max: 18 })
  const step = fc.oneof(
    name.map((of) => ({ kind: 'advertise' as const, of })),
    name.map((of) => ({ kind: 'withdraw' as const, of })),
    port.map((of) => ({ kind: 'kill' as const, of })),
    port.map((of) => ({ kind: 'start' as const, of })),
    fc.integer({ min: 1, max: 1_500 }).map((ms) => ({ kind: 'pass' as const, ms })),
    fc.constantFrom(0, 0.1).map((loss) => ({ kind: 'loss' as const, loss })),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 25 }), fc.nat(), async (steps, seed) => {
      const made = await simulation(12, { refreshPeriod: 60_000 }, seed)
      const { announcer, clock, dht, holders } = made
      const wanted = new Set<Key>()
      for (const taken of steps) {
        if (taken.kind === 'advertise') announcer.advertise([taken.of])
        if (taken.kind === 'advertise') wanted.add(taken.of)
        if (taken.kind === 'withdraw') announcer.withdraw([taken.of])
        if (taken.kind === 'withdraw') wanted.delete(taken.of)
        if (taken.kind === 'kill') dht.kill(taken.of)
        if (taken.kind === 'start') dht.start(taken.of)
        if (taken.kind === 'loss') dht.loss = taken.loss
        if (taken.kind === 'pass') await clock.pass(taken.ms)
      }
      dht.loss = 0
      // Lost nodes are asked again, and nodes that restarted unnoticed get everything with the next refresh.
      await clock.pass(150_000)
      assertPlaced(made, [...wanted])
      for (let at = 0; at < 12; at++) if (!wanted.has(key(at))) assert.deepEqual(holders(key(at)), [])
      assert.equal(announcer.figures.keys, wanted.size)
      assert.equal(announcer.figures.waiting, 0)
      made.close()
    }),
    { numRuns: 25 },
  )
})
