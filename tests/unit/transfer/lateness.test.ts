import assert from 'node:assert/strict'
import { test } from 'node:test'
import { LATE, Lateness } from '../../../lib/transfer/lateness.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'

function make(leastRate = 0) {
  const clock = new ManualClock()
  const told: (readonly [at: number, silence: number])[] = []
  const state = { awaited: { askedAt: 0, isOpen: true } }
  const lateness: Lateness = new Lateness({
    clock,
    awaited: () => state.awaited,
    leastRate: () => leastRate,
    onLate: () => told.push([clock.now(), lateness.silence]),
  })
  /** Waits that long for so many bytes. */
  const get = async (bytes: number, ms: number) => {
    lateness.begin(clock.now())
    await clock.pass(ms)
    lateness.came(bytes)
  }
  return { clock, told, lateness, get, state }
}

test('Lateness tells of a byte that does not come in time, again and again, with how long that is', async () => {
  const { clock, told, lateness } = make()
  lateness.begin(0)
  await clock.pass(LATE - 1)
  assert.deepEqual(told, [])
  await clock.pass(2 * LATE + 1)
  assert.deepEqual(
    told,
    [1, 2, 3].map((times) => [times * LATE, times * LATE]),
  )
  assert.equal(lateness.waiting, 3 * LATE)
  lateness.close()
  assert.equal(clock.pending, 0)
})

test('Lateness counts from the last byte on, with one timer', async () => {
  const { clock, told, get, lateness } = make()
  await get(1, 150)
  await get(1, LATE - 1)
  lateness.begin(149 + LATE)
  assert.equal(clock.pending, 1)
  await clock.pass(LATE - 1)
  assert.deepEqual(told, [])
  await clock.pass(1)
  assert.deepEqual(told, [[149 + 2 * LATE, LATE]])
  lateness.close()
})

test('Lateness does not count the time in which the client wants nothing', async () => {
  const { clock, told, get, lateness } = make(100)
  await get(1_000, 10)
  await clock.pass(60_000)
  // Nothing wakes up as long as it rests.
  assert.equal(clock.pending, 0)
  await get(100 * LATE, LATE - 1)
  assert.deepEqual([told, lateness.waiting], [[], 0])
  lateness.close()
})

test('Lateness counts from the request on for what has no head yet, and for what was asked for later', async () => {
  const { clock, told, lateness, state } = make()
  // It was asked for before its turn came.
  state.awaited = { askedAt: -150, isOpen: false }
  lateness.begin(0)
  await clock.pass(LATE)
  assert.deepEqual(told, [[LATE, LATE + 150]])
  // Another one has taken its place.
  state.awaited = { askedAt: LATE, isOpen: true }
  await clock.pass(LATE - 1)
  assert.equal(told.length, 1)
  await clock.pass(1)
  assert.deepEqual(told.at(-1), [2 * LATE, LATE])
  lateness.close()
})

test('Lateness tells of a peer that gives less than it should over some time of waiting', async () => {
  for (const [bytes, isLate] of [
    [900, true],
    [1_100, false],
  ] as const) {
    const { told, get, lateness } = make(100)
    for (let waited = 0; waited <= LATE; waited += 10) await get(bytes, 10)
    assert.deepEqual(told, isLate ? [[LATE, 10]] : [])
    lateness.close()
  }
})

test('Lateness judges a rate anew when it is the turn of another peer', async () => {
  const { told, get, lateness } = make(100)
  for (let waited = 10; waited < LATE; waited += 10) await get(0, 10)
  lateness.turn()
  for (let waited = 10; waited < LATE; waited += 10) await get(0, 10)
  assert.deepEqual(told, [])
  lateness.close()
})
