import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { PeerError } from '../../../lib/peers/error.ts'
import { readWhole } from '../../../lib/transfer/whole.ts'
import { cut, sourceOf, TestSource } from '../../doubles/byte-source.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import { never } from '../../fixtures/layout.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

const BOUNDS = { limit: 1_000, stallTimeout: 2_000 }

test('readWhole gives the bytes of a body of its declared size, and is an error for every other, which is ended', async () => {
  const content = fc.uint8Array({ maxLength: 1_200 })
  await fc.assert(
    fc.asyncProperty(content, fc.integer({ min: 1, max: 400 }), fc.nat(1_200), async (bytes, length, size) => {
      const clock = new ManualClock()
      const body = sourceOf(cut(bytes, length))
      const whole = readWhole(body, size, { ...BOUNDS, clock }, never)
      // What follows the declared size is never looked at unless it is in one chunk with it.
      const isSurplusSeen = bytes.length > size && size % length !== 0
      if (size <= BOUNDS.limit && size <= bytes.length && !isSurplusSeen) {
        assert.deepEqual(await whole, new Uint8Array(bytes.subarray(0, size)))
      } else {
        const failure = size > BOUNDS.limit || isSurplusSeen ? 'invalid' : 'unreachable'
        await assert.rejects(whole, (error) => error instanceof PeerError && error.failure === failure)
        assert.equal(body.cancelled, true)
        if (size > BOUNDS.limit) assert.equal(body.read, 0)
      }
      assert.equal(clock.pending, 0)
    }),
  )
})

test('readWhole ends a body that never stops coming, byte by byte, when its time is over', async () => {
  const clock = new ManualClock()
  const body = new TestSource()
  const whole = readWhole(body, 1_000, { ...BOUNDS, clock }, never)
  whole.catch(() => undefined)
  for (let given = 0; given < 4; given++) {
    await clock.pass(1_000)
    body.give(new Uint8Array(1))
    await waitFor('the next byte is wanted', () => body.asked === given + 2)
  }
  assert.equal(body.cancelled, false)
  await clock.pass(1_000)
  await assert.rejects(within('the end', whole), (error) => {
    assert.ok(error instanceof PeerError)
    assert.deepEqual([error.failure, error.message], ['silent', 'not whole in time'])
    return true
  })
  assert.equal(body.cancelled, true)
})

test('readWhole ends a body of which no byte comes in time', async () => {
  const clock = new ManualClock()
  const body = new TestSource()
  const whole = readWhole(body, 1_000, { ...BOUNDS, clock }, never)
  whole.catch(() => undefined)
  await clock.pass(1_999)
  body.give(new Uint8Array(1))
  await waitFor('the next byte is wanted', () => body.asked === 2)
  await clock.pass(1_999)
  assert.equal(body.cancelled, false)
  await clock.pass(1)
  await assert.rejects(within('the end', whole), /not whole in time/)
  assert.deepEqual([body.cancelled, clock.pending], [true, 0])
})

test('readWhole ends with the reason of its signal, before it begins and while it waits', async () => {
  const reason = new Error('stop')
  const before = new TestSource()
  await assert.rejects(
    readWhole(before, 10, { ...BOUNDS, clock: new ManualClock() }, AbortSignal.abort(reason)),
    reason,
  )
  assert.deepEqual([before.asked, before.cancelled], [0, true])
  const stop = new AbortController()
  const clock = new ManualClock()
  const body = new TestSource()
  const whole = readWhole(body, 10, { ...BOUNDS, clock }, stop.signal)
  await waitFor('a byte is waited for', () => body.asked === 1)
  stop.abort(reason)
  await assert.rejects(within('the end', whole), reason)
  assert.deepEqual([body.cancelled, clock.pending], [true, 0])
})
