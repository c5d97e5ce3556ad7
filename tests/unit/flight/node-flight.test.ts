import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import type { Source } from '../../../lib/flight/flight.ts'
import { createFlightMetrics } from '../../../lib/flight/metrics.ts'
import { NodeFlight } from '../../../lib/flight/node-flight.ts'
import { createMetrics } from '../../../lib/observe/metrics.ts'
import { digestKey, type Key } from '../../../lib/oci/key.ts'
import { addressOf } from '../../../lib/platform/address.ts'
import { systemClock } from '../../../lib/platform/clock.ts'
import type { Router } from '../../../lib/swarm/router.ts'
import type { MemoryWriter } from '../../doubles/memory-arrival.ts'
import { createMemoryStore } from '../../doubles/memory-store.ts'
import { MemorySwarm } from '../../doubles/memory-swarm.ts'
import { makeImage } from '../../fixtures/image.ts'
import { createLogRecorder } from '../../fixtures/log.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

const never = new AbortController().signal
const content = makeImage({ layers: 1 }).contents.at(-1) ?? assert.fail('no layer')
const others = makeImage({ seed: 9, layers: 6 }).contents
const { digest } = content.descriptor
const key = digestKey(digest)

const closing: (() => void)[] = []
afterEach(() => {
  for (const close of closing.splice(0)) close()
})

/** A swarm, and a way to let nodes join whose containerd is a memory store. */
function scene() {
  const swarm = new MemorySwarm()
  let port = 1
  return (router?: Pick<Router, 'lookup'>) => {
    const self = { host: '127.0.0.1', port: port++ }
    const member = swarm.join(self)
    const store = createMemoryStore()
    const { log, lines } = createLogRecorder()
    const metrics = createMetrics()
    const held = new Set<Key>()
    const flight: NodeFlight = new NodeFlight(
      {
        ...{ members: member, router: router ?? member, store, self, clock: systemClock, log },
        metrics: createFlightMetrics(metrics, () => flight.figures),
        holds: (of) => held.has(of),
      },
      { lookupTimeout: 100 },
    )
    closing.push(() => flight.close())
    const writers: MemoryWriter[] = []
    return {
      ...{ self, member, flight, store, held, lines, metrics },
      writer: () => writers.at(-1) ?? assert.fail('it was not pulled'),
      /** What a pull finds, by the ports of the nodes. Its client begins to write before it asks, as containerd does. */
      async pull(of = content): Promise<string> {
        if (store.arriving(of.descriptor.digest) === undefined) writers.push(store.arrive(of))
        return await named(flight.sources(digestKey(of.descriptor.digest), never))
      },
    }
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
  a.flight.missed(digest)
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

test('NodeFlight: whoever has it by then is named as a holder, before its announcement is found', async () => {
  const join = scene()
  const [a, b, c] = [join(), join(), join()]
  await a.pull()
  await b.pull()
  a.writer().commit()
  await waitFor('the keepers know', async () => (await c.pull()) === 'holder 1')
  assert.deepEqual(await b.flight.state(a.self, digest, never), { kind: 'held' })
  await waitFor('its line', () => a.lines.some(({ event }) => event === 'flight'))
  const { fields } = a.lines.find(({ event }) => event === 'flight') ?? assert.fail()
  assert.deepEqual(
    [fields.key, fields.role, fields.outcome, fields.bytes],
    [digest, 'follower', 'complete', content.bytes.length],
  )
})

test('NodeFlight: what a lookup finds needs no claim, and its holder may be named in the same answer', async () => {
  const join = scene()
  const [holder, a] = [join(), join()]
  holder.member.advertise([key])
  assert.equal(await a.pull(), 'holder 1')
  const text = (await a.metrics.render()).body
  assert.match(text, /flight_claims_total\{answer="lead"\} 0/)
})

test('NodeFlight: a parent that aborts is gone, and its follower leads where nobody else is left', async () => {
  const join = scene()
  const [a, b, c] = [join(), join(), join()]
  await a.pull()
  a.flight.missed(digest)
  await b.pull()
  await c.pull()
  a.writer().abort()
  await waitFor('it is gone', async () => (await b.flight.state(a.self, digest, never))?.kind === 'gone')
  b.flight.left(a.self, digest)
  assert.equal(await b.pull(), '')
  b.flight.missed(digest)
  const state = await c.flight.state(b.self, digest, never)
  assert.ok(state?.kind === 'arriving' && state.leads)
})

test('NodeFlight: what was sent upstream and has to wait for its turn there is gone until it begins', async () => {
  const join = scene()
  const [a, b] = [join(), join()]
  for (const other of others.slice(-3)) {
    await a.pull(other)
    a.flight.missed(other.descriptor.digest)
    a.writer().write(1)
  }
  await a.pull()
  a.flight.missed(digest)
  assert.deepEqual(await b.flight.state(a.self, digest, never), { kind: 'gone' })
  a.writer().write(1)
  assert.equal((await b.flight.state(a.self, digest, never))?.kind, 'arriving')
})

test('NodeFlight: a client that writes nothing is sent upstream, and nobody is sent to it', async () => {
  const join = scene()
  const [a, b] = [join(), join()]
  assert.equal(await named(a.flight.sources(key, never)), '')
  assert.equal(await b.pull(), '')
})

test('NodeFlight: a keeper that does not answer costs its patience, and the second one answers', async () => {
  const join = scene()
  const [a, b, c] = [join(), join(), join()]
  await a.pull()
  a.writer().write(1)
  await waitFor('both keepers know', async () => {
    const [first] = c.member.closest(key, 1)
    if (first === undefined || addressOf(first) === addressOf(c.self)) return true
    ;[a, b].find(({ self }) => addressOf(self) === addressOf(first))?.member.answer(() => undefined)
    return true
  })
  const startedAt = performance.now()
  const found = await c.pull()
  assert.ok(performance.now() - startedAt < 1_000)
  assert.match(found, /^(?:|parent 1)$/)
})

test('NodeFlight asks the router alone for tags, and ends with its signal and when it is closed', async () => {
  const join = scene()
  const a = join()
  const tag = 'registry.example/app:1' as Key
  join().member.advertise([tag])
  assert.equal(await named(a.flight.sources(tag, never)), 'holder 2')
  const endless: Pick<Router, 'lookup'> = {
    async *lookup(_, signal) {
      yield { host: '127.0.0.1', port: 77 }
      await new Promise((resolve) => signal.addEventListener('abort', resolve))
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

test('NodeFlight: a lookup that fails is not taken for a miss', async () => {
  const a = scene()({
    // biome-ignore lint/correctness/useYield: it fails before the first one
    async *lookup() {
      throw new Error('broken')
    },
  })
  await assert.rejects(named(a.flight.sources(key, never)), /broken/)
})
