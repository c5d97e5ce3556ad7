import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { RecordStore, type RecordStoreOptions } from '../../../../lib/swarm/dht/record-store.ts'
import { ManualClock } from '../../../doubles/manual-clock.ts'
import { seeded } from '../../../doubles/simulated-dht.ts'
import { createLogRecorder } from '../../../fixtures/log.ts'

const LIFE = 1_000
const topic = (name: string | number) => `${name}`.padStart(64, '0')
/** A record of an owner, in one of several versions. */
function record(owner: number, version = 0): Uint8Array {
  const bytes = new Uint8Array(33 + 6 * (version % 4)).fill(version, 32)
  bytes[31] = owner
  bytes[0] = owner >> 8
  return bytes
}
const keyOf = (bytes: Uint8Array) => bytes.subarray(0, 32)

function makeStore(options: RecordStoreOptions = {}) {
  const clock = new ManualClock()
  const { log, lines } = createLogRecorder()
  const store = new RecordStore({ log, clock, random: seeded(1) }, { life: LIFE, maxSize: 10_000, ...options })
  return { clock, lines, store }
}

test('RecordStore behaves like a map of records by topic and key, whatever is stored, removed and forgotten', async () => {
  const name = fc.nat(4).map(topic)
  const owner = fc.nat(5)
  const step = fc.oneof(
    { weight: 4, arbitrary: fc.record({ kind: fc.constant('add' as const), name, owner, version: fc.nat(9) }) },
    fc.record({ kind: fc.constant('remove' as const), name, owner }),
    fc.record({ kind: fc.constant('pass' as const), ms: fc.nat(LIFE) }),
  )
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const { clock, store } = makeStore()
      const model = new Map<string, Map<number, { bytes: Uint8Array; at: number }>>()
      for (const taken of steps) {
        if (taken.kind === 'pass') {
          await clock.pass(taken.ms)
          for (const records of model.values())
            for (const [key, { at }] of records) if (at < clock.now() - LIFE) records.delete(key)
        } else if (taken.kind === 'remove') {
          store.remove(taken.name, keyOf(record(taken.owner)))
          model.get(taken.name)?.delete(taken.owner)
        } else {
          const bytes = record(taken.owner, taken.version)
          store.add(taken.name, keyOf(bytes), bytes)
          const records = model.get(taken.name) ?? new Map()
          model.set(taken.name, records.set(taken.owner, { bytes, at: clock.now() }))
        }
        const text = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
        for (let at = 0; at <= 4; at++) {
          const expected = [...(model.get(topic(at))?.values() ?? [])].map(({ bytes }) => text(bytes))
          assert.deepEqual(store.get(topic(at), 20).map(text).sort(), expected.sort())
        }
        assert.equal(
          store.size,
          [...model.values()].reduce((sum, { size }) => sum + size, 0),
        )
      }
      assert.equal(store.dropped, 0)
    }),
    { numRuns: 200 },
  )
})

test('RecordStore keeps thousands of records, and reuses the room of those that are gone', () => {
  const { store } = makeStore()
  for (let round = 0; round < 3; round++) {
    for (let at = 0; at < 5_000; at++) store.add(topic(at), keyOf(record(at % 7)), record(at % 7))
    assert.equal(store.size, 5_000)
    for (let at = 0; at < 5_000; at++) assert.deepEqual(store.get(topic(at), 20), [record(at % 7)])
    for (let at = 0; at < 5_000; at++) store.remove(topic(at), keyOf(record(at % 7)))
    assert.equal(store.size, 0)
  }
})

test('RecordStore makes room by dropping the one that was stored the longest ago, and counts it', async () => {
  const { clock, store } = makeStore({ maxSize: 3 })
  for (const owner of [1, 2, 3]) {
    store.add(topic(owner), keyOf(record(owner)), record(owner))
    await clock.pass(10)
  }
  store.add(topic(1), keyOf(record(1)), record(1))
  store.add(topic(4), keyOf(record(4)), record(4))
  assert.deepEqual(
    [1, 2, 3, 4].map((owner) => store.get(topic(owner), 20).length),
    [1, 0, 1, 1],
  )
  assert.equal(store.size, 3)
  assert.equal(store.dropped, 1)
})

test('RecordStore gives random records of a popular topic, each equally often, and keeps a bounded number of them', () => {
  const { store } = makeStore({ mostOfTopic: 50 })
  for (let owner = 0; owner < 60; owner++) store.add(topic('all'), keyOf(record(owner)), record(owner))
  assert.equal(store.size, 50)
  assert.equal(store.dropped, 0)
  const times = new Map<number, number>()
  for (let round = 0; round < 500; round++) {
    const given = store.get(topic('all'), 20).map((bytes) => bytes[31] ?? -1)
    assert.equal(new Set(given).size, 20)
    for (const owner of given) times.set(owner, (times.get(owner) ?? 0) + 1)
  }
  assert.equal(times.size, 50)
  // 200 each are expected, with a deviation of 11.
  for (const [owner, count] of times) assert.ok(count > 120 && count < 280, `${owner} was given ${count} times`)
})

test('RecordStore gives each record first as often as any other, however few there are', () => {
  const { store } = makeStore()
  for (let owner = 0; owner < 4; owner++) store.add(topic('few'), keyOf(record(owner)), record(owner))
  const first = new Map<number, number>()
  for (let round = 0; round < 400; round++) {
    const [owner = -1, ...others] = store.get(topic('few'), 20).map((bytes) => bytes[31] ?? -1)
    assert.equal(new Set([owner, ...others]).size, 4)
    first.set(owner, (first.get(owner) ?? 0) + 1)
  }
  // 100 each are expected, with a deviation of 9.
  for (let owner = 0; owner < 4; owner++) assert.ok((first.get(owner) ?? 0) > 50, [...first.values()].join(' '))
})

test('RecordStore takes no record of another length, and is empty when destroyed', () => {
  const { store } = makeStore()
  const key = new Uint8Array(32)
  assert.throws(() => store.add(topic(1), key, new Uint8Array(52)), RangeError)
  assert.throws(() => store.add(topic(1), key, new Uint8Array(31)), RangeError)
  store.add(topic(1), key, record(1))
  store.destroy()
  assert.deepEqual(store.get(topic(1), 20), [])
  assert.equal(store.size, 0)
})

test('RecordStore says once that its limit is near, and again after it was not', async () => {
  const { clock, lines, store } = makeStore({ maxSize: 10 })
  const fill = (count: number) => {
    for (let at = 0; at < count; at++) store.add(topic(at), keyOf(record(at)), record(at))
  }
  fill(8)
  assert.deepEqual(lines, [])
  fill(9)
  fill(10)
  assert.deepEqual(
    lines.map(({ level, fields }) => [level, fields]),
    [['warn', { records: 9, limit: 10 }]],
  )
  await clock.pass(2 * LIFE)
  fill(9)
  assert.equal(lines.length, 2)
})

test('RecordStore says how many records it has dropped since it said so last, once in a while', async () => {
  const { clock, lines, store } = makeStore({ maxSize: 10, life: 3_600_000 })
  let owner = 0
  const add = (count: number) => {
    for (let at = 0; at < count; at++) store.add(topic(owner), keyOf(record(owner)), record(owner++))
  }
  const told = () => lines.filter(({ fields }) => fields.limit === undefined).map(({ fields }) => fields.records)
  add(14)
  await clock.pass(59_000)
  add(2)
  assert.deepEqual(told(), [1])
  await clock.pass(1_000)
  add(1)
  assert.deepEqual(told(), [1, 6])
  assert.equal(store.dropped, 7)
})
