import assert from 'node:assert/strict'
import process from 'node:process'
import { test } from 'node:test'
import { setImmediate, setTimeout } from 'node:timers/promises'
import { patientClock } from '../../../lib/peers/patient-clock.ts'
import { waitFor } from '../../fixtures/wait.ts'

async function passed(ms: number): Promise<void> {
  await new Promise<void>((resolve) => patientClock.after(ms, resolve))
}

/** Keeps the process from doing anything else, like much work or a lack of processors. */
function standStill(ms: number): void {
  const end = performance.now() + ms
  while (performance.now() < end);
}

test('patientClock calls back once, and not before the time', async () => {
  const since = patientClock.now()
  const calls: number[] = []
  patientClock.after(100, () => calls.push(patientClock.now() - since))
  await waitFor('the call', () => calls.length > 0)
  // Timers of runtimes round to milliseconds.
  assert.ok((calls[0] ?? 0) >= 99, `${calls[0]} ms`)
  await passed(100)
  assert.equal(calls.length, 1)
})

test('patientClock calls back at the next turn if the time has come or is past', async () => {
  const warnings: Error[] = []
  const note = (warning: Error) => void warnings.push(warning)
  process.on('warning', note)
  for (const ms of [0, -5]) {
    let calls = 0
    patientClock.after(ms, () => calls++)
    // Some more turns, because the process may stand still for a moment.
    for (let turn = 0; turn < 8; turn++) await setTimeout(1)
    assert.equal(calls, 1, `after ${ms} ms`)
  }
  process.off('warning', note)
  assert.deepEqual(warnings, [])
})

test('patientClock does not call back what was taken back, at whatever time', async () => {
  let calls = 0
  patientClock.after(0, () => calls++)()
  const cancel = patientClock.after(100, () => calls++)
  await passed(50)
  cancel()
  await passed(200)
  assert.equal(calls, 0)
})

test('patientClock lets what has come meanwhile be read after a standstill that was longer than the time', async () => {
  let isOver = false
  patientClock.after(100, () => {
    isOver = true
  })
  standStill(300)
  // Due timers, and everything that waits to be read, get their turn.
  await setTimeout(0)
  await setImmediate()
  assert.equal(isOver, false)
  await waitFor('the call', () => isOver)
})
