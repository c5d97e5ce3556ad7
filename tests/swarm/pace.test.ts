import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { CpuBudget, SendWindow } from '../../lib/swarm/pace.ts'

test('SendWindow grows with answers up to its bound, and shrinks once for what was lost together', () => {
  const window = new SendWindow([4, 32])
  assert.equal(window.size, 4)
  const answer = (count: number) => {
    for (let at = 0; at < count; at++) {
      window.sent()
      window.answered()
    }
  }
  answer(4)
  assert.equal(window.size, 8)
  answer(1_000)
  assert.equal(window.size, 32)
  for (let at = 0; at < 3; at++) window.sent()
  for (let at = 0; at < 3; at++) window.lost(100, 1_100)
  assert.equal(window.size, 22)
  answer(11)
  assert.equal(window.size, 24)
  window.sent()
  window.lost(1_200, 2_200)
  assert.equal(window.size, 17)
})

test('SendWindow stays within its bounds and counts what is under way, whatever happens', () => {
  const event = fc.constantFrom('sent', 'answered', 'over', 'lost')
  fc.assert(
    fc.property(fc.array(event, { maxLength: 300 }), (events) => {
      const window = new SendWindow([4, 16])
      let inFlight = 0
      for (const [at, kind] of events.entries()) {
        if (kind === 'sent') {
          window.sent()
          inFlight++
        } else if (inFlight > 0) {
          inFlight--
          if (kind === 'answered') window.answered()
          else if (kind === 'over') window.over()
          else window.lost(at, at + 1)
        }
        assert.ok(window.size >= 4 && window.size <= 16)
        assert.equal(window.room, window.size - inFlight)
      }
    }),
  )
})

test('CpuBudget asks for the pause that keeps work to its share', () => {
  const budget = new CpuBudget(0.25)
  assert.equal(budget.pause(1_000), 0)
  budget.spent(1_000, 1_002)
  assert.equal(budget.pause(1_002), 6)
  assert.equal(budget.pause(1_005), 3)
  assert.equal(budget.pause(2_000), 0)
})
