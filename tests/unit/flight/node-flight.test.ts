import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { Source } from '../../../lib/flight/flight.ts'
import { RENEWAL } from '../../../lib/flight/keeper.ts'
import { encode, type Placing, readAnswer, readQuestion } from '../../../lib/flight/message.ts'
import { createFlightMetrics } from '../../../lib/flight/metrics.ts'
import { createNodeFlight, type NodeFlight } from '../../../lib/flight/node-flight.ts'
import { createMetrics } from '../../../lib/observe/metrics.ts'
import { digestKey, type Key } from '../../../lib/oci/key.ts'
import type { ContentTarget } from '../../../lib/oci/path.ts'
import { type Clock, systemClock } from '../../../lib/platform/clock.ts'
import type { Router } from '../../../lib/swarm/router.ts'
import { LONGEST_RACE } from '../../../lib/transfer/race.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import type { MemoryWriter } from '../../doubles/memory-arrival.ts'
import { createMemoryStore } from '../../doubles/memory-store.ts'
import { type MemoryNode, MemorySwarm } from '../../doubles/memory-swarm.ts'
import { makeImage } from '../../fixtures/image.ts'
import { createLogRecorder } from '../../fixtures/log.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

const never = new AbortController().signal
const content = makeImage({ layers: 1 }).contents.at(-1) ?? assert.fail('no layer')
const others = makeImage({ seed: 9, layers: 6 }).contents
const { digest } = content.descriptor
const key = digestKey(digest)

/** Of a node that has been told nothing. */
const known = () => ({ peers: [], isWhole: false })

const closing: (() => void)[] = []
afterEach(() => {
  for (const close of closing.splice(0)) close()
})

/** A swarm, and a way to let nodes join whose containerd is a memory store. */
function scene(clock: Clock = systemClock) {
  const swarm = new MemorySwarm()
  let port = 1
  return (router?: Pick<Router, 'lookup' | 'known'>) => {
    const self = { host: '127.0.0.1', port: port++ }
    const member = swarm.join(self)
    const store = createMemoryStore()
    const { log, lines } = createLogRecorder()
    const metrics = createMetrics()
    const held = new Set<Key>()
    const flight: NodeFlight = createNodeFlight(
      {
        ...{ members: member, router: router ?? member, store, self, clock, patientClock: clock, log },
        metrics: createFlightMetrics(metrics, () => flight.figures),
        holds: (of) => held.has(of),
      },
      { lookupTimeout: 100, gives: true },
    )
    member.answer(flight.answerTo)
    closing.push(() => flight.close())
    const writers: MemoryWriter[] = []
    return {
      ...{ self, member, flight, store, held, lines, metrics },
      writer: () => writers.at(-1) ?? assert.fail('it was not pulled'),
      /** What a pull finds, by the ports of the nodes. Its client begins to write before it asks, as containerd does. */
      async pull(of = content, target?: ContentTarget): Promise<string> {
        if (store.arriving(of.descriptor.digest) === undefined) writers.push(store.arrive(of))
        return await named(flight.sources(digestKey(of.descriptor.digest), never, target))
      },
    }
  }
}

/** Lets a node be getting as much from upstream as containerd 2 does at a time. */
async function occupy({ pull, flight, writer }: ReturnType<ReturnType<typeof scene>>): Promise<void> {
  for (const other of others.slice(-3)) {
    await pull(other)
    assert.equal(flight.missed(other.descriptor.digest, true), undefined)
    writer().write(1)
  }
}

async function named(sources: AsyncIterable<Source>): Promise<string> {
  const found = await within('sources', Array.fromAsync(sources))
  return found.map(({ port, isArriving }) => `${isArriving ? 'parent' : 'holder'} ${port}`).join()
}

test('NodeFlight: one leads, and the others follow each other', async () => {
  const join = scene()
  const [a, b, c] = [join(), join(), join()]
  assert.equal(await a.pull(), '')
  a.flight.missed(digest, true)
  assert.equal(await b.pull(), 'parent 1')
  assert.equal(await c.pull(), 'parent 2')
  assert.deepEqual(await b.flight.state(a.self, digest, never), {
    ...{ kind: 'arriving', written: 0, size: content.bytes.length, leads: true },
  })
  a.writer().write(5)
  assert.deepEqual(await b.flight.state(a.self, digest, never), {
    ...{ kind: 'arriving', written: 5, size: content.bytes.length, leads: true },
  })
  const ofFollower = await c.flight.state(b.self, digest, never)
  assert.ok(ofFollower?.kind === 'arriving' && !ofFollower.leads)
})

test('NodeFlight: a node that has the content is named as a holder once it has announced it', async () => {
  const join = scene()
  const [a, b] = [join(), join()]
  await a.pull()
  a.flight.missed(digest, true)
  a.writer().commit()
  assert.equal(await b.pull(), 'parent 1')
  a.held.add(key)
  a.member.advertise([key])
  assert.equal(await b.pull(), 'holder 1')
  assert.deepEqual(await b.flight.state(a.self, digest, never), { kind: 'held' })
  await waitFor('its line', () => a.lines.some(({ event }) => event === 'flight'))
  const { fields } = a.lines.find(({ event }) => event === 'flight') ?? assert.fail()
  assert.deepEqual(
    [fields.key, fields.role, fields.outcome, fields.bytes],
    [digest, 'leader', 'complete', content.bytes.length],
  )
})

test('NodeFlight: a node that has removed the content is no longer named', async () => {
  const join = scene()
  const [a, b, c] = [join(), join(), join()]
  await a.pull()
  a.flight.missed(digest, true)
  a.writer().commit()
  a.member.advertise([key])
  assert.equal(await b.pull(), 'holder 1')
  a.member.withdraw([key])
  assert.equal(await c.pull(), 'parent 2')
})

test('NodeFlight: keepers are told nothing of content that comes at once: its announcement says that it is complete', async () => {
  const join = scene()
  const nodes = Array.from({ length: 6 }, () => join())
  const [one = assert.fail()] = nodes.filter(({ member, self }) =>
    member.closest(key, 2).every(({ port }) => port !== self.port),
  )
  const heard: (string | undefined)[] = []
  for (const { member, self } of nodes) {
    if (self.port === one.self.port) continue
    member.answer((question) => {
      const kind = readQuestion(question)?.kind
      heard.push(kind)
      return encode(
        kind === 'ask' ? { kind: 'place', holders: [], held: 0, crowd: 0, isWhole: true } : { kind: 'told' },
      )
    })
  }
  assert.equal(await one.pull(), '')
  one.flight.missed(digest, false)
  one.writer().write(content.bytes.length)
  await setImmediate()
  one.held.add(key)
  one.writer().commit()
  await waitFor('its end', () => one.lines.some(({ event }) => event === 'flight'))
  assert.deepEqual(heard, ['ask'])
})

test('NodeFlight: a holder that a lookup finds gives to one node, and later nodes follow that one', async () => {
  const join = scene()
  const [holder, a, b, c] = [join(), join(), join(), join()]
  holder.member.advertise([key])
  assert.equal(await a.pull(), 'holder 1')
  assert.equal(await b.pull(), 'parent 2')
  assert.equal(await c.pull(), 'parent 3')
  const claims = (await c.metrics.render()).body.match(/flight_claims_total\{.*\} 1/g)
  assert.deepEqual(claims, ['flight_claims_total{answer="follow"} 1'])
})

test('NodeFlight: a node also asks the router if its keepers may not know everything', async () => {
  const join = scene()
  const nodes = [join(), join(), join()]
  for (const { member } of nodes) member.isWhole = false
  const [holder, a, b] = nodes
  holder?.member.advertise([key])
  assert.equal(await a?.pull(), 'holder 1')
  assert.equal(await b?.pull(), 'parent 2', 'others are getting it: no holder has to be looked for')
})

test('NodeFlight: a node asks nobody else if its keepers name holders', async () => {
  const join = scene()
  const holder = join()
  const a = join({ known: (of) => a.member.known(of), lookup: () => assert.fail('it is asked') })
  assert.equal(await a.pull(), '')
  holder.member.advertise([key])
  assert.equal(await a.pull(), 'holder 1')
})

test('NodeFlight: each of many holders gives to one node, and nodes that get nothing from them follow', async () => {
  const join = scene()
  const nodes = [join(), join(), join(), join()]
  for (const { member } of nodes.slice(0, 2)) member.advertise([key])
  assert.equal(await nodes[2]?.pull(), 'holder 1,holder 2')
  // They may have removed it a moment ago.
  assert.equal(await nodes[3]?.pull(), 'holder 1,holder 2,parent 3')
})

test('NodeFlight: a parent that aborts is gone, and its follower leads if nobody else is left', async () => {
  const join = scene()
  const [a, b, c] = [join(), join(), join()]
  await a.pull()
  a.flight.missed(digest, true)
  await b.pull()
  await c.pull()
  a.writer().abort()
  await waitFor('it is gone', async () => (await b.flight.state(a.self, digest, never))?.kind === 'gone')
  assert.equal(b.flight.hasLeft(a.self, digest), false)
  b.flight.left(a.self, digest)
  assert.equal(b.flight.hasLeft(a.self, digest), true)
  assert.equal(await b.pull(), '')
  b.flight.missed(digest, true)
  const state = await c.flight.state(b.self, digest, never)
  assert.ok(state?.kind === 'arriving' && state.leads)
})

test('NodeFlight: a follower may make its files when the first bytes come, as containerd 2 does', async () => {
  const clock = new ManualClock()
  const join = scene(clock)
  const [a, b, c] = [join(), join(), join()]
  const writer = a.store.arrive(content)
  assert.equal(await named(a.flight.sources(key, never)), '')
  a.flight.missed(digest, false)
  writer.write(5)
  const found = named(b.flight.sources(key, never))
  await clock.pass(100)
  assert.equal(await found, 'parent 1')
  const said = async () =>
    readAnswer((await c.member.ask(b.self, encode({ kind: 'state', digest }), never)) ?? assert.fail())
  await clock.pass(500)
  assert.deepEqual(await said(), { kind: 'soon' })
  await clock.pass(1_000)
  assert.deepEqual(await said(), { kind: 'gone' })
})

test('NodeFlight: a node that does not see what arrives at it is sent to another node when its parent is lost', async () => {
  const clock = new ManualClock()
  const join = scene(clock)
  const [a, b, c] = [join(), join(), join()]
  assert.equal(await a.pull(), '')
  a.flight.missed(digest, false)
  a.writer().write(5)
  assert.equal(await b.pull(), 'parent 1')
  b.writer().write(3)
  const ask = async () => {
    const found = named(c.flight.sources(key, never))
    await clock.pass(500)
    return await found
  }
  assert.equal(await ask(), 'parent 2')
  await clock.pass(2_000)
  c.flight.left(b.self, digest)
  assert.equal(await ask(), 'parent 1')
})

test('NodeFlight: a peer that gives to another node is named again a moment later', async () => {
  const join = scene()
  const [a, b] = [join(), join()]
  await a.pull()
  a.flight.missed(digest, false)
  a.writer().write(5)
  await waitFor('it has begun', async () => (await b.pull()) === 'parent 1')
  b.flight.left(a.self, digest, true)
  assert.equal(b.flight.hasLeft(a.self, digest), true)
  await waitFor('it may be asked again', () => !b.flight.hasLeft(a.self, digest))
  assert.equal(await b.pull(), 'parent 1')
})

test('NodeFlight: a node that waits for content learns at once that upstream refuses it, and goes upstream itself', async () => {
  const join = scene()
  const [a, b, c, d] = [join(), join(), join(), join()]
  await a.pull()
  a.flight.missed(digest, false)
  assert.deepEqual([await b.pull(), await c.pull(), await d.pull()], ['parent 1', 'parent 2', 'parent 3'])
  a.writer().abort()
  await waitFor('a is gone', async () => (await b.flight.state(a.self, digest, never))?.kind === 'gone')
  // One may have been stopped: the others wait for the next one.
  assert.equal((await d.flight.state(c.self, digest, never))?.kind, 'arriving')
  b.flight.left(a.self, digest)
  assert.equal(await b.pull(), '')
  b.flight.missed(digest, false)
  b.writer().abort()
  await waitFor('d is released', async () => (await d.flight.state(c.self, digest, never))?.kind === 'gone')
  assert.deepEqual([await c.pull(), await d.pull()], ['', ''])
})

test('NodeFlight: only a keeper of the digest can say that upstream refuses it', async () => {
  const join = scene()
  const nodes = Array.from({ length: 6 }, () => join())
  const [keeper] = nodes[0]?.member.closest(key, 2) ?? []
  const kept = nodes.filter(({ member, self }) => member.closest(key, 2).every(({ port }) => port !== self.port))
  const [leader = assert.fail(), follower = assert.fail(), liar = assert.fail()] = kept
  await leader.pull()
  leader.flight.missed(digest, false)
  await follower.pull()
  const told = async (by: MemoryNode) => {
    await by.ask(follower.self, encode({ kind: 'released', digest }), never)
    return (await follower.flight.state(leader.self, digest, never))?.kind
  }
  assert.equal(await told(liar.member), 'arriving')
  const { member } = nodes.find(({ self }) => self.port === keeper?.port) ?? assert.fail()
  assert.equal(await told(member), 'gone')
})

test('NodeFlight: nobody follows a node with wrong bytes, and complete content does not count as refused', async () => {
  const join = scene()
  const [a, b, c, d] = [join(), join(), join(), join()]
  await a.pull()
  a.flight.missed(digest, false)
  a.writer().write(5)
  await b.pull()
  b.flight.wrong(digest)
  await waitFor('nobody is followed', async () => (await c.pull()) === '')
  c.flight.missed(digest, false)
  // It is not known who is to blame: another one gets it anew, and who comes then waits for that one.
  assert.equal(await d.pull(), '')
  // It has just asked that one, which had nothing.
  d.flight.left(c.self, digest)
  const verified = d.flight.verified(digest, never)
  assert.equal(await c.flight.verified(digest, never), false)
  c.writer().commit()
  c.held.add(key)
  c.member.advertise([key])
  assert.equal(await within('what is verified', verified), true)
  assert.equal(d.flight.hasLeft(c.self, digest), false)
  assert.equal(await d.pull(), 'holder 3')
})

test('NodeFlight: the wait for verified content is bounded', async () => {
  const clock = new ManualClock()
  const join = scene(clock)
  const [a, b] = [join(), join()]
  a.flight.wrong(digest)
  await clock.pass(1)
  assert.equal(await a.pull(), '')
  a.flight.missed(digest, false)
  a.writer().write(5)
  assert.equal(await b.pull(), '')
  let isOver = false
  const verified = b.flight.verified(digest, never).finally(() => {
    isOver = true
  })
  for (let waited = 0; waited < 19_000; waited += 500) await clock.pass(500)
  assert.equal(isOver, false)
  await clock.pass(2_000)
  assert.equal(await within('its end', verified), false)
})

test('NodeFlight: a client that rejects complete content has got wrong bytes', async () => {
  const join = scene()
  const [a, b, c] = [join(), join(), join()]
  await a.pull()
  a.flight.missed(digest, false)
  await b.pull()
  a.writer().write(content.bytes.length)
  a.writer().abort()
  await waitFor('nobody is followed', async () => (await c.pull()) === '')
})

test('NodeFlight: a client asks again for content that would wait for its turn upstream, and another node leads', async () => {
  const join = scene()
  const [a, b, c] = [join(), join(), join()]
  await occupy(a)
  assert.equal(await a.pull(), '')
  assert.equal(a.flight.missed(digest, true), content.bytes.length)
  await waitFor('the next one leads', async () => (await b.pull()) === '')
  assert.equal(b.flight.missed(digest, true), undefined)
  b.writer().write(1)
  assert.equal(await a.pull(), 'parent 2')
  assert.equal(await c.pull(), 'parent 1')
})

test('NodeFlight: a node that finds only a peer whose turn has not come asks again', async () => {
  const join = scene()
  const [a, b] = [join(), join()]
  await occupy(a)
  await a.pull()
  a.flight.missed(digest, false)
  assert.equal(await b.pull(), 'parent 1')
  assert.deepEqual(await b.flight.state(a.self, digest, never), { kind: 'later' })
  // It looks for another one, and does not ask the same one again.
  assert.equal(await b.pull(), 'parent 1')
  assert.equal(b.flight.missed(digest, true), content.bytes.length)
})

test('NodeFlight: nobody follows a node that was told to ask again', async () => {
  const join = scene()
  const [a, b, c] = [join(), join(), join()]
  await occupy(a)
  await a.pull()
  a.flight.missed(digest, false)
  assert.equal(await b.pull(), 'parent 1')
  assert.equal(await c.pull(), 'parent 2')
  assert.deepEqual(await b.flight.state(a.self, digest, never), { kind: 'later' })
  assert.equal(b.flight.missed(digest, true), content.bytes.length)
  assert.deepEqual(await c.flight.state(b.self, digest, never), { kind: 'gone' })
  c.flight.left(b.self, digest)
  await waitFor('the keepers name another one', async () => (await c.pull()) === 'parent 1')
})

test('NodeFlight: a node that follows a peer whose turn has not come asks again, twice at most', async () => {
  const join = scene()
  const [a, b] = [join(), join()]
  await occupy(a)
  await a.pull()
  assert.equal(a.flight.missed(digest, false), undefined)
  for (const size of [content.bytes.length, content.bytes.length, undefined]) {
    assert.equal(await b.pull(), 'parent 1')
    assert.deepEqual(await b.flight.state(a.self, digest, never), { kind: 'later' })
    assert.equal(b.flight.missed(digest, true), size)
  }
})

test('NodeFlight: a node tells both keepers at once whom it follows', async () => {
  // Without the messages that would tell it later.
  const after: Clock['after'] = (ms, run) => (ms < RENEWAL ? systemClock.after(ms, run) : () => undefined)
  const join = scene({ ...systemClock, after })
  const nodes = Array.from({ length: 7 }, () => join())
  const [first, second] = nodes[0]?.member.closest(key, 2) ?? []
  const keeper = nodes.find(({ self }) => self.port === second?.port) ?? assert.fail('no second keeper')
  const [a, b] = nodes.filter(({ self: { port } }) => port !== first?.port && port !== second?.port)
  assert.ok(a && b)
  assert.equal(await a.pull(), '')
  assert.equal(a.flight.missed(digest, true), undefined)
  assert.equal(keeper.flight.figures.kept, 0)
  assert.equal(await b.pull(), `parent ${a.self.port}`)
  await waitFor('the second one to hear of that', () => keeper.flight.figures.kept === 1)
})

const image = { registry: 'example.org', repository: 'team/app' }
const manifest: ContentTarget = { ...image, kind: 'manifest', tag: 'v1' }
const layer: ContentTarget = { ...image, kind: 'blob', digest }

/** Two nodes that pull an image: the first one leads, and goes upstream for three layers before the one that others want, too. */
async function led(join: ReturnType<typeof scene>) {
  const [a, b] = [join(), join()]
  const [config = assert.fail(), ...layers] = others.slice(-4)
  assert.equal(await a.pull(config, manifest), '')
  assert.equal(await b.pull(config, manifest), '')
  for (const other of layers) {
    const { digest } = other.descriptor
    assert.equal(await a.pull(other, { ...image, kind: 'blob', digest }), '')
    assert.equal(a.flight.missed(digest, true), undefined)
    a.writer().write(1)
  }
  return [a, b] as const
}

test('NodeFlight: the leader for a manifest leads for all layers, and the others wait for the turn of each', async () => {
  const [a, b] = await led(scene())
  // It may ask before the leader does.
  const first = b.pull(content, layer)
  assert.equal(await a.pull(content, layer), '')
  assert.equal(a.flight.missed(digest, true), undefined)
  assert.equal(await first, 'parent 1')
  for (let times = 1; times <= 2; times++) {
    assert.deepEqual(await b.flight.state(a.self, digest, never), { kind: 'later' })
    assert.equal(b.flight.missed(digest, true), content.bytes.length)
    assert.equal(await b.pull(content, layer), 'parent 1')
  }
  assert.deepEqual(await b.flight.state(a.self, digest, never), { kind: 'waiting', size: content.bytes.length })
  a.writer().write(1)
  const state = await b.flight.state(a.self, digest, never)
  assert.ok(state?.kind === 'arriving' && state.written === 1 && state.leads)
})

test('NodeFlight: the leader for one tag of a repository leads for its layers, though another node leads for another tag', async () => {
  const join = scene()
  const [a, b] = [join(), join()]
  const [first = assert.fail(), second = assert.fail()] = others
  assert.equal(await a.pull(first, manifest), '')
  assert.equal(await b.pull(second, manifest), '')
  await Promise.all([a.pull(second, manifest), b.pull(first, manifest)])
  for (const [node, of] of [
    [a, content],
    [b, others.at(-1) ?? assert.fail()],
  ] as const) {
    const { digest } = of.descriptor
    assert.equal(await node.pull(of, { ...image, kind: 'blob', digest }), '')
    assert.equal(node.flight.missed(digest, true), undefined)
  }
  assert.equal(await b.pull(content, layer), 'parent 1')
})

test('NodeFlight: a manifest comes from its holders, and nobody follows for it', async () => {
  const join = scene()
  const [holder, a, b] = [join(), join(), join()]
  holder.member.advertise([key])
  assert.equal(await a.pull(content, manifest), 'holder 1')
  assert.equal(await b.pull(content, manifest), 'holder 1')
})

test('NodeFlight: if nobody leads for an image, a node that has asked again twice, and waited, goes upstream', async () => {
  // Whoever waits for a leader looks twenty times before it gives up.
  const fast: Clock = {
    now: () => 10 * systemClock.now(),
    after: (ms, run) => systemClock.after(ms / 10, run),
  }
  const [a, b] = await led(scene(fast))
  for (const size of [content.bytes.length, content.bytes.length, undefined]) {
    assert.equal(await b.pull(content, layer), '')
    assert.equal(b.flight.missed(digest, true), size)
  }
  assert.equal(await a.pull(content, layer), 'parent 2')
})

test('NodeFlight: if the leader for an image does not answer, a client asks again before it goes upstream', async () => {
  const [a, b] = await led(scene())
  assert.equal(await a.pull(content, layer), '')
  assert.equal(a.flight.missed(digest, true), undefined)
  assert.equal(await b.pull(content, layer), 'parent 1')
  a.member.answer(() => undefined)
  assert.equal(await b.flight.state(a.self, digest, AbortSignal.timeout(100)), undefined)
  b.flight.left(a.self, digest)
  assert.equal(b.flight.missed(digest, true), content.bytes.length)
})

test('NodeFlight: nobody waits for content that upstream has refused to the leader for the image', async () => {
  const join = scene()
  const [a, b] = [join(), join()]
  const [config = assert.fail()] = others.slice(-4)
  assert.equal(await a.pull(config, manifest), '')
  assert.equal(await b.pull(config, manifest), '')
  assert.equal(await a.pull(content, layer), '')
  assert.equal(a.flight.missed(digest, true), undefined)
  assert.equal(await b.pull(content, layer), 'parent 1')
  a.writer().abort()
  await waitFor('the keepers know', async () => (await b.pull(content, layer)) === '')
  assert.equal(b.flight.missed(digest, true), undefined)
})

test('NodeFlight: nobody waits for a leader that has given up a layer before its turn came', async () => {
  const clock = new ManualClock()
  const [a, b] = await led(scene(clock))
  assert.equal(await a.pull(content, layer), '')
  assert.equal(a.flight.missed(digest, true), undefined)
  for (let times = 1; times <= 2; times++) {
    assert.equal(await b.pull(content, layer), 'parent 1')
    await clock.pass(200)
    assert.deepEqual(await b.flight.state(a.self, digest, never), { kind: 'later' })
    assert.equal(b.flight.missed(digest, true), content.bytes.length)
  }
  assert.equal(await b.pull(content, layer), 'parent 1')
  assert.equal((await b.flight.state(a.self, digest, never))?.kind, 'waiting')
  a.writer().abort()
  await clock.pass(0)
  assert.deepEqual(await b.flight.state(a.self, digest, never), { kind: 'gone' })
  b.flight.left(a.self, digest)
  const since = clock.now()
  let isOver = false
  const asked = b.pull(content, layer).finally(() => {
    isOver = true
  })
  while (!isOver) await clock.pass(50)
  assert.equal(await asked, '')
  assert.ok(clock.now() - since < 500, `it waited for ${clock.now() - since} ms`)
  assert.equal(b.flight.missed(digest, true), undefined)
})

test('NodeFlight: a node that has begun to get a layer leads for the rest of it, whoever leads for the image', async () => {
  const join = scene()
  const [a, b] = await led(join)
  // Before the first claim, because it may be the keeper.
  const c = join()
  assert.equal(await a.pull(content, layer), '')
  a.flight.missed(digest, true)
  a.writer().write(5)
  assert.equal(await b.pull(content, layer), 'parent 1')
  b.writer().write(5)
  b.flight.left(a.self, digest)
  assert.equal(await b.pull(content, layer), '')
  assert.equal(await c.pull(content, layer), 'parent 2')
})

test('NodeFlight: a node that goes upstream for the rest of a layer waits for no leader of the other layers', async () => {
  const [a, b] = await led(scene())
  assert.equal(await a.pull(content, layer), '')
  assert.equal(a.flight.missed(digest, true), undefined)
  a.writer().write(5)
  assert.equal(await b.pull(content, layer), 'parent 1')
  b.writer().write(5)
  b.flight.left(a.self, digest)
  assert.equal(b.flight.missed(digest, false), undefined)
  const other = others[0] ?? assert.fail()
  assert.equal(await b.pull(other, { ...layer, digest: other.descriptor.digest }), '')
  assert.equal(b.flight.missed(other.descriptor.digest, true), undefined)
})

test('NodeFlight: the wait for the turn of a leader is bounded', async () => {
  let skipped = 0
  const clock: Clock = { now: () => systemClock.now() + skipped, after: (ms, run) => systemClock.after(ms, run) }
  const [a, b] = await led(scene(clock))
  assert.equal(await a.pull(content, layer), '')
  a.flight.missed(digest, true)
  for (let times = 1; times <= 2; times++) {
    await b.pull(content, layer)
    assert.deepEqual(await b.flight.state(a.self, digest, never), { kind: 'later' })
    b.flight.missed(digest, true)
  }
  await b.pull(content, layer)
  assert.equal((await b.flight.state(a.self, digest, never))?.kind, 'waiting')
  // Before the request for the first byte fails, which would count against the leader.
  skipped += LONGEST_RACE - 1_000
  assert.deepEqual(await b.flight.state(a.self, digest, never), { kind: 'later' })
  assert.equal(b.flight.missed(digest, true), undefined)
})

test('NodeFlight: a leader that has not answered for two seconds is dead, and not only busy', async () => {
  let skipped = 0
  const clock: Clock = { now: () => systemClock.now() + skipped, after: (ms, run) => systemClock.after(ms, run) }
  const [a, b] = await led(scene(clock))
  assert.equal(await a.pull(content, layer), '')
  a.flight.missed(digest, true)
  for (let times = 1; times <= 2; times++) {
    await b.pull(content, layer)
    assert.deepEqual(await b.flight.state(a.self, digest, never), { kind: 'later' })
    b.flight.missed(digest, true)
  }
  await b.pull(content, layer)
  const state = async () => (await b.flight.state(a.self, digest, AbortSignal.timeout(50)))?.kind
  const { answerTo } = a.flight
  const answers: (string | undefined)[] = []
  for (const isSilent of [false, true, true, false, true, true]) {
    a.member.answer(isSilent ? () => undefined : answerTo)
    answers.push(await state())
    skipped += 1_900
  }
  assert.deepEqual(answers, ['waiting', 'waiting', 'waiting', 'waiting', 'waiting', 'waiting'])
  assert.equal(await state(), undefined)
  assert.equal(b.flight.missed(digest, true), undefined)
})

test('NodeFlight: the follower of a leader that is far too slow goes upstream, but its own follower does not', async () => {
  let skipped = 0
  const clock: Clock = { now: () => systemClock.now() + skipped, after: (ms, run) => systemClock.after(ms, run) }
  const join = scene(clock)
  const [a, b, c] = [join(), join(), join()]
  const bytes = new Uint8Array(30_000_000)
  const large = { bytes, descriptor: { ...content.descriptor, size: bytes.length } }
  await a.pull(large)
  a.flight.missed(digest, true)
  a.writer().write(1_000_000)
  assert.equal(await b.pull(large), 'parent 1')
  assert.equal(await c.pull(large), 'parent 2')
  const states = async () => [
    (await b.flight.state(a.self, digest, never))?.kind,
    (await c.flight.state(b.self, digest, never))?.kind,
  ]
  for (const { writer } of [b, c]) writer().write(1)
  assert.deepEqual(await states(), ['arriving', 'arriving'])
  skipped += 4_000
  for (const { writer } of [b, c]) writer().write(500_000)
  assert.deepEqual(await states(), ['gone', 'arriving'])
  // A registry may be slow for all: if each of them went there, it would have to give one image to each.
  b.flight.left(a.self, digest)
  assert.equal(await b.pull(large), '')
  b.flight.missed(digest, false)
  skipped += 4_000
  for (const { writer } of [b, c]) writer().write(600_000)
  assert.equal((await c.flight.state(b.self, digest, never))?.kind, 'arriving')
})

test('NodeFlight: a client that writes nothing is sent upstream, and nobody is sent to it', async () => {
  const join = scene()
  const [a, b] = [join(), join()]
  assert.equal(await named(a.flight.sources(key, never)), '')
  assert.equal(await b.pull(), '')
})

test('NodeFlight: a peer that does not answer is followed for nothing else, until it answers', async () => {
  const join = scene()
  const nodes = Array.from({ length: 7 }, () => join())
  const [second = assert.fail(), third = assert.fail()] = others
  const keys = [content, second, third].map(({ descriptor }) => digestKey(descriptor.digest))
  const isKeeper = ({ member, self }: (typeof nodes)[number]) =>
    keys.some((one) => member.closest(one, 2).some(({ port }) => port === self.port))
  const [leader, follower] = nodes.filter((node) => !isKeeper(node))
  assert.ok(leader && follower)
  for (const one of [content, second, third]) {
    assert.equal(await leader.pull(one), '')
    leader.flight.missed(one.descriptor.digest, true)
  }
  assert.equal(await follower.pull(), `parent ${leader.self.port}`)
  leader.member.answer(() => undefined)
  assert.equal(await follower.flight.state(leader.self, digest, AbortSignal.timeout(50)), undefined)
  assert.equal(await follower.pull(second), '')
  leader.member.answer(leader.flight.answerTo)
  assert.equal((await follower.flight.state(leader.self, digest, never))?.kind, 'arriving')
  assert.equal(await follower.pull(third), `parent ${leader.self.port}`)
})

test('NodeFlight: a keeper that does not answer costs its patience once, and the second one answers', async () => {
  const join = scene()
  const nodes = Array.from({ length: 6 }, () => join())
  const [first, second] = nodes[0]?.member.closest(key, 2) ?? []
  const [leader, follower] = nodes.filter(({ self }) => self.port !== first?.port && self.port !== second?.port)
  assert.ok(first && second && leader && follower)
  await leader.pull()
  leader.flight.missed(digest, true)
  leader.writer().write(1)
  const [keeper, other] = [first, second].map(({ port }) => nodes.find(({ self }) => self.port === port))
  await waitFor('the second keeper knows', () => other?.flight.figures.kept === 1)
  let asked = 0
  keeper?.member.answer((message) => {
    if (readQuestion(message)?.kind === 'ask') asked++
    return undefined
  })
  assert.equal(await follower.pull(), `parent ${leader.self.port}`)
  await follower.pull()
  assert.equal(asked, 1)
})

test('NodeFlight: before a node replaces another one as leader, it also asks the second keeper', async () => {
  const join = scene()
  const nodes = Array.from({ length: 6 }, () => join())
  const [first, second] = nodes[0]?.member.closest(key, 2) ?? []
  const [leader, other, follower] = nodes.filter(({ self }) => self.port !== first?.port && self.port !== second?.port)
  assert.ok(first && second && leader && other && follower)
  await leader.pull()
  leader.flight.missed(digest, true)
  assert.equal(await follower.pull(), `parent ${leader.self.port}`)
  // What only the second keeper knows.
  const news = { kind: 'arriving', digest, written: 1, room: 1 } as const
  assert.ok(await other.member.ask(second, encode(news), never))
  follower.flight.left(leader.self, digest)
  assert.equal(await follower.pull(), `parent ${other.self.port}`)
})

test('NodeFlight: a better peer that was given up in the meantime is not followed', async () => {
  const join = scene()
  const nodes = Array.from({ length: 6 }, () => join())
  const [one = assert.fail(), lost = assert.fail(), good = assert.fail()] = nodes.filter(({ member, self }) =>
    member.closest(key, 2).every(({ port }) => port !== self.port),
  )
  const place: Placing = { kind: 'place', holders: [], held: 0, crowd: 1, isWhole: true, parent: lost.self }
  let better = lost.self
  for (const keeper of one.member.closest(key, 2)) {
    const { member } = nodes.find(({ self }) => self.port === keeper.port) ?? assert.fail()
    member.answer((question) =>
      encode(readQuestion(question)?.kind === 'ask' ? place : { kind: 'told', parent: better }),
    )
  }
  assert.equal(await one.pull(), `parent ${lost.self.port}`)
  one.flight.left(lost.self, digest)
  one.writer().write(1)
  assert.equal(await one.pull(), `parent ${lost.self.port}`)
  assert.equal(one.flight.better(digest), undefined)
  better = good.self
  one.flight.missed(digest, false)
  await one.pull()
  assert.deepEqual(await waitFor('the good one', async () => one.flight.better(digest)), {
    ...good.self,
    isArriving: true,
  })
})

test('NodeFlight: a node that moves while keepers answer does not take what was better than its former parent', async () => {
  const join = scene()
  const nodes = Array.from({ length: 7 }, () => join())
  const [one, lost, good, other] = nodes.filter(({ member, self }) =>
    member.closest(key, 2).every(({ port }) => port !== self.port),
  )
  assert.ok(one && lost && good && other)
  let parent = lost.self
  let answers = 0
  for (const keeper of one.member.closest(key, 2)) {
    const { member } = nodes.find(({ self }) => self.port === keeper.port) ?? assert.fail()
    let told = 0
    member.answer((message) => {
      const question = readQuestion(message)
      if (question?.kind === 'ask') {
        return encode({ kind: 'place', holders: [], held: 0, crowd: 1, isWhole: true, parent })
      }
      if (question?.kind !== 'arriving' || question.parent?.port !== lost.self.port) return encode({ kind: 'told' })
      if (++told === 1) return undefined
      answers++
      return encode({ kind: 'told', parent: other.self })
    })
  }
  assert.equal(await one.pull(), `parent ${lost.self.port}`)
  one.flight.left(lost.self, digest)
  parent = good.self
  assert.equal(await one.pull(), `parent ${good.self.port}`)
  assert.equal(answers, 0)
  await waitFor('the late answers', () => answers === 2)
  await setImmediate()
  assert.equal(one.flight.better(digest), undefined)
})

test('NodeFlight: a better source counts even if only the second keeper knows it', async () => {
  const clock = new ManualClock()
  const join = scene(clock)
  const nodes = Array.from({ length: 6 }, () => join())
  const [one = assert.fail(), parent = assert.fail(), holder = assert.fail()] = nodes.filter(({ member, self }) =>
    member.closest(key, 2).every(({ port }) => port !== self.port),
  )
  const place: Placing = { kind: 'place', holders: [], held: 0, crowd: 1, isWhole: true, parent: parent.self }
  for (const [at, keeper] of one.member.closest(key, 2).entries()) {
    const { member } = nodes.find(({ self }) => self.port === keeper.port) ?? assert.fail()
    const told = { kind: 'told', ...(at === 1 && { holder: holder.self }) } as const
    member.answer((question) => encode(readQuestion(question)?.kind === 'ask' ? place : told))
  }
  assert.equal(await one.pull(), `parent ${parent.self.port}`)
  one.writer().write(1)
  await clock.pass(1_000)
  assert.deepEqual(one.flight.better(digest), holder.self)
})

test('NodeFlight: a node with many above it hears of a better peer to follow', async () => {
  const join = scene()
  const chain = Array.from({ length: 6 }, () => join())
  for (const [index, one] of chain.entries()) {
    assert.equal(await one.pull(), index === 0 ? '' : `parent ${index}`)
    if (index === 0) one.flight.missed(digest, true)
  }
  const [first, , , , deep] = chain
  assert.ok(first !== undefined && deep !== undefined)
  assert.equal(deep.flight.better(digest), undefined)
  // Its link has carried much more than comes now.
  const news = { kind: 'arriving', digest, written: 10, room: 2 } as const
  for (const keeper of first.member.closest(key, 2)) assert.ok(await first.member.ask(keeper, encode(news), never))
  deep.writer().write(10)
  const better = await waitFor('it hears', async () => deep.flight.better(digest))
  assert.deepEqual(better, { ...first.self, isArriving: true })
  assert.equal(deep.flight.better(digest), undefined, 'it is told once')
  assert.match((await deep.metrics.render()).body, /flight_moved_total 1$/m)
})

test('NodeFlight asks only the router for tags, and ends with its signal and when it is closed', async () => {
  const join = scene()
  const a = join()
  const tag = 'registry.example/app:1' as Key
  join().member.advertise([tag])
  assert.equal(await named(a.flight.sources(tag, never)), 'holder 2')
  const endless: Pick<Router, 'lookup' | 'known'> = {
    known,
    async *lookup(_, signal) {
      yield { host: '127.0.0.1', port: 77 }
      if (!signal.aborted) await new Promise((resolve) => signal.addEventListener('abort', resolve))
    },
  }
  const b = join(endless)
  const stop = new AbortController()
  const reading = named(b.flight.sources(key, stop.signal))
  stop.abort()
  assert.match(await reading, /^(?:|holder 77)$/)
  const closed = named(b.flight.sources(key, never))
  b.flight.close()
  assert.match(await closed, /^(?:|holder 77)$/)
})

test('NodeFlight: a failed lookup does not count as a miss', async () => {
  const a = scene()({
    known,
    // biome-ignore lint/correctness/useYield: it fails before the first one
    async *lookup() {
      throw new Error('broken')
    },
  })
  await assert.rejects(named(a.flight.sources(key, never)), /broken/)
})
