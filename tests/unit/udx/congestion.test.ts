import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Congestion, INITIAL_WINDOW, MIN_WINDOW } from '../../../lib/udx/congestion.ts'

const PACKET = 1500

/**
 * Runs a control over an ideal pipe, in round trips: whatever it lets fly comes back one round trip later, at most `rate` bytes
 * per millisecond, and of that the given share is lost.
 */
function run(
  control: Congestion,
  options: { rate: number; rtt: number; loss?: number; rounds: number; from?: number },
): number {
  let now = options.from ?? 0
  let delivered = 0
  for (let round = 0; round < options.rounds; round++) {
    const flight = Math.min(control.window, Math.max(PACKET, control.pacingRate * options.rtt))
    const time = Math.max(options.rtt, flight / options.rate)
    const prior = delivered
    const lost = flight * (options.loss ?? 0)
    now += time
    if (lost > 0) control.onLost(lost, flight)
    delivered += flight - lost
    const sample = {
      rate: (flight - lost) / time,
      appLimited: false,
      priorDelivered: prior,
      acked: flight - lost,
      rtt: time,
    }
    control.onAcked(sample, 0, now)
  }
  return now
}

test('Congestion starts with ten packets and doubles until the path is full', () => {
  const control = new Congestion()
  assert.equal(control.window, INITIAL_WINDOW)
  assert.equal(control.state, 'startup')
  run(control, { rate: 10_000, rtt: 10, rounds: 30 })
  assert.equal(control.state, 'probe-bw')
  assert.ok(control.rate > 9_000 && control.rate <= 10_000, `${control.rate} bytes/ms measured on a path of 10,000`)
  assert.ok(control.window >= 100_000 && control.window <= 600_000, `window ${control.window}`)
})

test('Congestion does not move for 10% of random loss', () => {
  const control = new Congestion()
  run(control, { rate: 10_000, rtt: 10, rounds: 30 })
  run(control, { rate: 10_000, rtt: 10, loss: 0.1, rounds: 300, from: 10_000 })
  assert.ok(control.rate > 8_000, `${control.rate} bytes/ms after 300 rounds`)
})

test('Congestion caps the flight when a quarter of it is lost', () => {
  const control = new Congestion()
  run(control, { rate: 10_000, rtt: 10, rounds: 30 })
  const before = control.window
  run(control, { rate: 10_000, rtt: 10, loss: 0.25, rounds: 30, from: 10_000 })
  assert.ok(control.window < before, `${before} before, ${control.window} after`)
  assert.ok(control.window >= MIN_WINDOW)
})

test('Congestion starts from the smallest window after a stall, and recovers', () => {
  const control = new Congestion()
  const now = run(control, { rate: 10_000, rtt: 10, rounds: 30 })
  const before = control.window
  control.onStall()
  assert.equal(control.window, MIN_WINDOW)
  run(control, { rate: 10_000, rtt: 10, rounds: 30, from: now })
  assert.ok(control.window > before / 2, `${control.window} of ${before}`)
})

test('Congestion measures the shortest round trip again after ten seconds, with a small flight', () => {
  const control = new Congestion()
  const now = run(control, { rate: 10_000, rtt: 10, rounds: 30 })
  const before = control.window
  control.onAcked({ rate: 9_000, appLimited: false, priorDelivered: 0, acked: PACKET, rtt: 30 }, 0, now + 11_000)
  assert.equal(control.state, 'probe-rtt')
  assert.ok(control.window < before)
  control.onAcked({ rate: 9_000, appLimited: false, priorDelivered: 0, acked: PACKET, rtt: 12 }, 0, now + 11_300)
  assert.equal(control.state, 'probe-bw')
})

test('Congestion does not take an idle sender for a slow path', () => {
  const control = new Congestion()
  const now = run(control, { rate: 10_000, rtt: 10, rounds: 30 })
  const rate = control.rate
  control.onAcked({ rate: 10, appLimited: true, priorDelivered: 1e12, acked: 100, rtt: 10 }, 0, now + 10)
  assert.ok(control.rate >= rate)
})
