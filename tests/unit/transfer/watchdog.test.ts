import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PeerError } from '../../../lib/peers/error.ts'
import { StallError, Watchdog } from '../../../lib/transfer/watchdog.ts'
import { TestSource } from '../../doubles/byte-source.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import { within } from '../../fixtures/wait.ts'

function make(usualRate?: number) {
  const clock = new ManualClock()
  const source = new TestSource()
  const options = { stallTimeout: 2_000, window: 3_000 }
  const watchdog = new Watchdog(source, options, () => usualRate, clock)
  /** Waits that long for a chunk of that many bytes. */
  const get = async (bytes: number, ms: number) => {
    const next = watchdog.next()
    await clock.pass(ms)
    source.give(new Uint8Array(bytes))
    assert.equal((await within('the chunk', next))?.length, bytes)
  }
  return { clock, source, watchdog, get }
}

test('Watchdog says when no byte comes in time, and goes on waiting for the same chunk if it is asked again', async () => {
  const { clock, source, watchdog } = make()
  const stalls = async (silentMs: number) => {
    const next = watchdog.next()
    next.catch(() => undefined)
    await clock.pass(1_999)
    assert.equal(clock.pending, 1)
    await clock.pass(1)
    await assert.rejects(within('the end', next), (error) => {
      assert.ok(error instanceof StallError)
      const { message, failure } = error
      assert.deepEqual([message, failure, error.silentMs], [`no byte within ${silentMs} ms`, 'silent', silentMs])
      return true
    })
  }
  await stalls(2_000)
  await stalls(4_000)
  assert.equal(source.cancelled, false)
  // It comes while nobody waits for it.
  source.give(new Uint8Array(7))
  assert.equal((await within('the chunk', watchdog.next()))?.length, 7)
  await stalls(2_000)
})

test('Watchdog does not count the time in which nobody wants a byte', async () => {
  const { clock, source, watchdog, get } = make(1_000)
  await get(1, 1_999)
  assert.equal(clock.pending, 0)
  await clock.pass(3_600_000)
  assert.equal(source.cancelled, false)
  await get(1, 1_000)
  assert.equal(watchdog.slowWindows, 0)
  // Most of the time went by without waiting: the rate says nothing of the peer.
  assert.equal(watchdog.measured, undefined)
})

test('Watchdog hands on what the body throws, and its end', async () => {
  const { source, watchdog, clock } = make()
  const broken = watchdog.next()
  source.fail(new PeerError('the connection broke'))
  await assert.rejects(broken, /the connection broke/)
  const ended = watchdog.next()
  source.give(undefined)
  assert.equal(await ended, undefined)
  assert.equal(clock.pending, 0)
})

test('Watchdog finds a peer too slow that gives less than an eighth of the usual over a window, and not before', async () => {
  const { watchdog, get } = make(1_000)
  await get(124_000, 1_000)
  await get(124_000, 1_000)
  assert.equal(watchdog.slowWindows, 0)
  await get(124_000, 1_000)
  assert.equal(watchdog.slowWindows, 1)
  assert.deepEqual(watchdog.measured, { bytes: 372_000, ms: 3_000 })
})

test('Watchdog counts the windows in a row in which a peer was too slow', async () => {
  const { watchdog, get } = make(1_000)
  for (let second = 0; second < 8; second++) await get(1_000, 1_000)
  assert.equal(watchdog.slowWindows, 2)
  await get(1_000, 1_000)
  assert.equal(watchdog.slowWindows, 3)
  for (let second = 0; second < 3; second++) await get(126_000, 1_000)
  assert.equal(watchdog.slowWindows, 0)
})

test('Watchdog finds a peer too slow that gives less than 16 kB/s as long as nobody knows what is usual', async () => {
  for (const [bytes, slowWindows] of [
    [15_999, 2],
    [16_000, 0],
  ] as const) {
    const { watchdog, get } = make(undefined)
    for (let second = 0; second < 6; second++) await get(bytes, 1_000)
    assert.equal(watchdog.slowWindows, slowWindows)
  }
})
