import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { RequestWindow } from '../../../../lib/swarm/announce/pace.ts'

/** Answers that come at once. */
function answer(window: RequestWindow, count: number, now = 0): void {
  for (let at = 0; at < count; at++) {
    window.sent()
    window.ended(now, now, true)
  }
}

test('RequestWindow grows with answers up to its bound, and halves once for requests that were lost together', () => {
  const window = new RequestWindow([4, 64])
  assert.equal(window.size, 16)
  answer(window, 16)
  assert.equal(window.size, 32)
  answer(window, 1_000)
  assert.equal(window.size, 64)
  for (let at = 0; at < 3; at++) window.sent()
  for (let at = 0; at < 3; at++) window.ended(100, 1_100, false)
  assert.equal(window.size, 32)
  answer(window, 40, 1_100)
  assert.equal(window.size, 36)
  window.sent()
  window.ended(1_200, 2_200, false)
  assert.equal(window.size, 18)
})

test('RequestWindow halves for late answers before any are lost, and never below its bound', () => {
  const window = new RequestWindow([4, 64])
  for (let round = 0; round < 2; round++) window.sent()
  window.ended(0, 300, true)
  assert.equal(window.size, 17)
  window.ended(0, 500, true)
  assert.equal(window.size, 8)
  for (let now = 1_000; now < 10_000; now += 1_000) {
    window.sent()
    window.ended(now, now + 900, true)
  }
  assert.equal(window.size, 4)
  assert.equal(window.room, 4)
})

test('RequestWindow stays within its bounds and counts running requests, whatever happens', () => {
  const event = fc.tuple(fc.constantFrom('sent', 'answered', 'silent'), fc.nat(2_000))
  fc.assert(
    fc.property(fc.array(event, { maxLength: 300 }), (events) => {
      const window = new RequestWindow([4, 32])
      let inFlight = 0
      let now = 0
      for (const [kind, took] of events) {
        now += took / 10
        if (kind === 'sent') {
          window.sent()
          inFlight++
        } else if (inFlight > 0) {
          inFlight--
          window.ended(now - took, now, kind === 'answered')
        }
        assert.ok(window.size >= 4 && window.size <= 32)
        assert.equal(window.room, window.size - inFlight)
      }
    }),
  )
})
