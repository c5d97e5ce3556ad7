import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Alarm } from '../../../lib/udx/clock.ts'
import { Simulation } from './support/simulation.ts'

test('Alarm rings once, at the last deadline that was set', async () => {
  const simulation = new Simulation()
  const rings: number[] = []
  const alarm = new Alarm(simulation.clock, () => rings.push(simulation.now))
  alarm.set(10)
  alarm.set(30)
  alarm.set(20)
  await simulation.for(100)
  assert.deepEqual(rings, [20])
  alarm.set(150)
  alarm.set(120)
  await simulation.for(100)
  assert.deepEqual(rings, [20, 120])
  assert.equal(simulation.open.timers, 0)
})

test('Alarm uses one timer however often its deadline moves', () => {
  const simulation = new Simulation()
  const alarm = new Alarm(simulation.clock, () => undefined)
  for (let i = 0; i < 100; i++) alarm.set(10 + i)
  assert.equal(simulation.open.timers, 1)
  alarm.close()
  assert.equal(simulation.open.timers, 0)
})

test('Alarm does not ring once it is turned off or closed', async () => {
  const simulation = new Simulation()
  let rings = 0
  const alarm = new Alarm(simulation.clock, () => rings++)
  alarm.set(10)
  alarm.set(Number.POSITIVE_INFINITY)
  await simulation.for(20)
  alarm.set(30)
  alarm.close()
  await simulation.for(20)
  assert.equal(rings, 0)
  assert.equal(simulation.open.timers, 0)
})
