import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createRecordStore, type RecordStoreOptions } from '../../../../lib/swarm/dht/record-store.ts'
import { ManualClock } from '../../../doubles/manual-clock.ts'
import { seeded } from '../../../doubles/simulated-dht.ts'
import { createLogRecorder } from '../../../fixtures/log.ts'

const LIFE = 1_000
const topic = (name: string | number) => Buffer.from(`${name}`.padEnd(32, '-'))
/** The record of an owner: its compact address. */
function record(owner: number): Uint8Array {
  return Uint8Array.of(owner >> 8, 0, 0, owner, 0, 0)
}
const ownerOf = (bytes: Uint8Array) => bytes[3] ?? -1

function makeStore(options: RecordStoreOptions = {}) {
  const clock = new ManualClock()
  const { log, lines } = createLogRecorder()
  const store = createRecordStore({ log, clock, random: seeded(1) }, { life: LIFE, maxSize: 10_000, ...options })
  return { clock, lines, store }
}

test('RecordStore behaves like a map of records by topic and key, whatever is stored, removed and forgotten', async () => {
  const name = fc.nat(4)
  const owner = fc.nat(5)
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('add' as const), name, owner }) },
    fc.record({ kind: fc.constant('remove' as const), name, owner }),
    fc.record({ kind: fc.constant('pass' as const), ms: fc.nat(LIFE) }),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const { clock, store } = makeStore()
      const model = new Map<number, Map<number, { bytes: Uint8Array; at: number }>>()
      for (const taken of steps) {
        if (taken.kind === 'pass') {
          await clock.pass(taken.ms)
          for (const records of model.values())
            for (const [key, { at }] of records) if (at < clock.now() - LIFE) records.delete(key)
        } else if (taken.kind === 'remove') {
          store.remove(topic(taken.name), record(taken.owner))
          model.get(taken.name)?.delete(taken.owner)
        } else {
          const bytes = record(taken.owner)
          assert.equal(store.add(topic(taken.name), bytes), true)
          const records = model.get(taken.name) ?? new Map()
          model.set(taken.name, records.set(taken.owner, { bytes, at: clock.now() }))
        }
        const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
        for (let at = 0; at <= 4; at++) {
          const expected = [...(model.get(at)?.values() ?? [])].map(({ bytes }) => text(bytes))
          assert.deepEqual(store.get(topic(at), 20).map(text).sort(), expected.sort())
        }
        assert.equal(
          store.size,
          [...model.values()].reduce((sum, { size }) => sum + size, 0),
        )
      }
      assert.equal(store.refused, 0)
    }),
    { numRuns: 200 },
  )
})

test('RecordStore keeps thousands of records, and reuses the room of those that are gone', () => {
  const { store } = makeStore()
  for (let round = 0; round < 3; round++) {
    for (let at = 0; at < 5_000; at++) store.add(topic(at), record(at % 7))
    assert.equal(store.size, 5_000)
    for (let at = 0; at < 5_000; at++) assert.deepEqual(store.get(topic(at), 20), [record(at % 7)])
    for (let at = 0; at < 5_000; at++) store.remove(topic(at), record(at % 7))
    assert.equal(store.size, 0)
  }
})

test('RecordStore refuses and counts what it has no room for, renews what it has, and drops nothing before its time', async () => {
  const { clock, store } = makeStore({ maxSize: 3 })
  for (const owner of [1, 2, 3]) {
    assert.equal(store.isFull(topic(owner)), false)
    assert.equal(store.add(topic(owner), record(owner)), true)
    await clock.pass(10)
  }
  assert.equal(store.add(topic(1), record(1)), true, 'it is renewed')
  assert.equal(store.add(topic(4), record(4)), false)
  assert.deepEqual([store.isFull(topic(1)), store.isFull(topic(4)), store.refused, store.size], [true, true, 1, 3])
  const held = () => [1, 2, 3, 4].map((owner) => store.get(topic(owner), 20).length)
  assert.deepEqual(held(), [1, 1, 1, 0])
  await clock.pass(LIFE - 15)
  assert.deepEqual(held(), [1, 0, 1, 0])
  assert.equal(store.add(topic(4), record(4)), true)
  assert.equal(store.refused, 1)
})

test('RecordStore gives random records of a popular topic, each equally often, and keeps a bounded number of them', () => {
  const { store } = makeStore({ mostOfTopic: 50 })
  for (let owner = 0; owner < 60; owner++) assert.equal(store.add(topic('all'), record(owner)), owner < 50)
  assert.equal(store.size, 50)
  assert.equal(store.refused, 10)
  assert.deepEqual([store.isFull(topic('all')), store.isFull(topic('other'))], [true, false])
  const times = new Map<number, number>()
  for (let round = 0; round < 500; round++) {
    const given = store.get(topic('all'), 20).map(ownerOf)
    assert.equal(new Set(given).size, 20)
    for (const owner of given) times.set(owner, (times.get(owner) ?? 0) + 1)
  }
  assert.equal(times.size, 50)
  // 200 each are expected, with a deviation of 11.
  for (const [owner, count] of times) assert.ok(count > 120 && count < 280, `${owner} was given ${count} times`)
})

test('RecordStore keeps a few records of one host for a topic, so that it cannot hide what others announce', () => {
  const { store } = makeStore()
  const from = (host: number, port: number) => {
    const bytes = record(host)
    bytes[4] = port
    return bytes
  }
  for (let port = 0; port < 200; port++) assert.equal(store.add(topic('all'), from(1, port)), port < 16)
  assert.equal(store.add(topic('all'), from(2, 1)), true)
  assert.equal(store.add(topic('other'), from(1, 100)), true)
  assert.equal(store.add(topic('all'), from(1, 0)), true, 'it is renewed')
  assert.deepEqual([store.size, store.refused], [18, 184])
})

test('RecordStore gives each record first as often as any other, however few there are', () => {
  const { store } = makeStore()
  for (let owner = 0; owner < 4; owner++) store.add(topic('few'), record(owner))
  const first = new Map<number, number>()
  for (let round = 0; round < 400; round++) {
    const [owner = -1, ...others] = store.get(topic('few'), 20).map(ownerOf)
    assert.equal(new Set([owner, ...others]).size, 4)
    first.set(owner, (first.get(owner) ?? 0) + 1)
  }
  // 100 each are expected, with a deviation of 9.
  for (let owner = 0; owner < 4; owner++) assert.ok((first.get(owner) ?? 0) > 50, [...first.values()].join(' '))
})

test('RecordStore says once a minute that it refuses records, of whom, and how many others there were', async () => {
  const { clock, lines, store } = makeStore({ maxSize: 10, life: 3_600_000 })
  let owner = 0
  const add = (count: number) => {
    for (let at = 0; at < count; at++) store.add(topic(owner), record(owner++))
  }
  const told = () => lines.map(({ fields }) => [fields.from, fields.left_out])
  add(14)
  await clock.pass(59_000)
  add(2)
  assert.deepEqual(told(), [['0.0.0.10:0', undefined]])
  await clock.pass(1_000)
  add(1)
  assert.deepEqual(told()[1], ['0.0.0.16:0', 5])
  assert.equal(store.refused, 7)
})
