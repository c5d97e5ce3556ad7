import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createLateness, LATE } from '../../../lib/transfer/lateness.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'

function make(leastRate = 1) {
  const clock = new ManualClock()
  const told: (readonly [at: number, silence: number])[] = []
  const lateness: ReturnType<typeof createLateness> = createLateness({
    clock,
    leastRate: () => leastRate,
    onLate: () => told.push([clock.now(), lateness.silence()]),
  })
  /** Waits that long for so many bytes. */
  const get = async (bytes: number, ms: number) => {
    lateness.begin(clock.now())
    await clock.pass(ms)
    lateness.came(bytes)
  }
  return { clock, told, lateness, get }
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
  assert.equal(lateness.waiting(), 3 * LATE)
  lateness.close()
  assert.equal(clock.pending, 0)
})

test('Lateness counts from the last byte on, with one timer', async () => {
  const { clock, told, lateness, get } = make()
  for (let at = 0; at < 20; at++) {
    await get(LATE, LATE / 4)
    assert.equal(clock.pending, 1)
  }
  lateness.begin(clock.now())
  await clock.pass(LATE - 1)
  assert.deepEqual(told, [])
  await clock.pass(1)
  assert.deepEqual(told, [[6 * LATE, LATE]])
  lateness.close()
})

test('Lateness does not count the time in which the client wants nothing', async () => {
  const { clock, told, lateness, get } = make()
  await get(0, LATE / 2)
  await clock.pass(10 * LATE)
  assert.equal(clock.pending, 0)
  lateness.begin(clock.now())
  await clock.pass(LATE / 2 - 1)
  assert.deepEqual(told, [])
  await clock.pass(1)
  lateness.close()
  assert.deepEqual(told, [[11 * LATE, LATE / 2]])
})

test('Lateness tells of a peer that gives less than it should, sooner the less that is', async () => {
  for (const [bytes, after] of [
    [0, LATE],
    [5, 2 * LATE],
    [9, 10 * LATE],
  ] as const) {
    const { clock, told, lateness, get } = make()
    while (told.length === 0 && clock.now() < 20 * LATE) await get(bytes, 10)
    assert.ok(Math.abs(clock.now() - after) <= LATE / 2, `${bytes} bytes: after ${clock.now()} ms`)
    assert.ok(told.every(([, silence]) => silence <= 10))
    lateness.close()
  }
  const { told, lateness, get } = make()
  for (let at = 0; at < 100; at++) await get(10, 10)
  assert.deepEqual(told, [])
  lateness.close()
})

test('Lateness holds nothing against a peer whose turn has come', async () => {
  const { clock, told, lateness } = make()
  lateness.begin(0)
  await clock.pass(LATE - 1)
  lateness.turn()
  await clock.pass(LATE - 1)
  assert.deepEqual(told, [])
  assert.deepEqual([lateness.waiting(), lateness.silence()], [2 * LATE - 2, LATE - 1])
  await clock.pass(1)
  assert.deepEqual(told, [[2 * LATE - 1, LATE]])
  lateness.close()
})
