import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Phase, type SimulationOptions, simulate } from './simulation.ts'

/** What issue 5 asks for; takes half an hour of two cores. */
const FULL: SimulationOptions = {
  seed: 1,
  nodes: 100,
  digests: 2_000,
  shared: 0.3,
  settleTimeout: 600_000,
  lookups: 10_000,
  probes: 50,
  churnSeconds: 180,
  churn: 0.1,
  lookupRate: 30,
  workers: ['node', 'node', 'node'],
}
/** What a machine of two cores does in two minutes. */
const SMALL: SimulationOptions = {
  ...FULL,
  nodes: 40,
  digests: 250,
  settleTimeout: 120_000,
  lookups: 3_000,
  probes: 20,
  churnSeconds: 60,
}

const overrides = JSON.parse(process.env.SWARM_SIMULATION ?? '{}') as Partial<SimulationOptions>
const options: SimulationOptions = { ...(process.env.SWARM_SIZE === 'full' ? FULL : SMALL), ...overrides }

test('swarm: what is held is found, while nothing changes and while nodes are replaced', async () => {
  console.log(JSON.stringify(options))
  const report = await simulate({ ...options, tell: (line) => console.log(line) })
  const { young, still, churn, records, residentMebibytes, exits } = report
  console.log(`at most ${Math.max(...records)} records at a node; ${residentMebibytes.toFixed(0)} MiB in all`)
  assert.deepEqual(young.strangers, [])
  assertPhase('still', still, 0.999)
  assertPhase('churn', churn, 0.99)
  assert.ok(churn.replaced >= Math.floor((options.nodes * options.churn * options.churnSeconds) / 60) - 1)
  assert.deepEqual(
    exits,
    options.workers.map(() => 0),
    'every process ends by itself',
  )
})

function assertPhase(name: string, { recall, probes }: Phase, least: number): void {
  const { asked, found, strangers } = recall
  assert.ok(asked > 0)
  assert.ok(found / asked >= least, `${name}: found ${found} of ${asked}, expected ${least * 100} %`)
  assert.deepEqual(strangers, [], `${name}: addresses that never held what was asked for`)
  assert.ok(probes.findable.length > 0 && probes.gone.length > 0)
  assert.ok(Math.max(...probes.findable) <= 1_000, `${name}: a new digest was findable after ${probes.findable} ms`)
  assert.ok(Math.max(...probes.gone) <= 2_000, `${name}: a withdrawn digest was gone after ${probes.gone} ms`)
}
