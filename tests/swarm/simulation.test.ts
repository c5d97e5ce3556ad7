import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Phase, type SimulationOptions, simulate } from './simulation.ts'

/** A cluster of a hundred nodes; takes half an hour on two cores. */
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
/** As much as two busy cores do in two minutes. */
const SMALL: SimulationOptions = {
  ...FULL,
  nodes: 24,
  digests: 100,
  settleTimeout: 90_000,
  lookups: 1_000,
  probes: 12,
  churnSeconds: 45,
  churn: 0.2,
  lookupRate: 20,
}
const isFull = process.env.SWARM_SIZE === 'full'
/**
 * The share of lookups that must find a holder, and the milliseconds within which a new digest must be found and a withdrawn one must
 * be gone. The full size has a machine of its own; in the small one, other work on the same cores delays some answers for too
 * long.
 */
const EXPECTED = isFull
  ? { still: { recall: 0.999, findable: 1_000, gone: 2_000 }, churn: { recall: 0.99, findable: 1_000, gone: 2_000 } }
  : { still: { recall: 0.95, findable: 10_000, gone: 10_000 }, churn: { recall: 0.9, findable: 10_000, gone: 10_000 } }

const overrides = JSON.parse(process.env.SWARM_SIMULATION ?? '{}') as Partial<SimulationOptions>
const options: SimulationOptions = { ...(isFull ? FULL : SMALL), ...overrides }

test('swarm: lookups find what nodes hold, while nothing changes and while nodes are replaced', async () => {
  console.log(JSON.stringify(options))
  const report = await simulate({ ...options, tell: (line) => console.log(line) })
  const { young, still, churn, records, residentMebibytes, exits } = report
  console.log(`at most ${Math.max(...records)} records at a node; ${residentMebibytes.toFixed(0)} MiB in all`)
  assert.deepEqual(young.strangers, [])
  assertPhase('still', still)
  assertPhase('churn', churn)
  assert.ok(churn.replaced >= Math.floor((options.nodes * options.churn * options.churnSeconds) / 60) - 1)
  assert.deepEqual(
    exits,
    options.workers.map(() => 0),
    'every process ends by itself',
  )
})

function assertPhase(name: keyof typeof EXPECTED, { recall, probes }: Phase): void {
  const { asked, found, strangers } = recall
  assert.ok(asked > 0)
  const expected = EXPECTED[name]
  assert.ok(
    found / asked >= expected.recall,
    `${name}: found ${found} of ${asked}, expected ${expected.recall * 100} %`,
  )
  assert.deepEqual(strangers, [], `${name}: addresses that never held what was asked for`)
  assert.ok(probes.findable.length > 0 && probes.gone.length > 0)
  const [findable, gone] = [Math.max(...probes.findable), Math.max(...probes.gone)]
  assert.ok(findable <= expected.findable, `${name}: new digests were findable after ${probes.findable} ms`)
  assert.ok(gone <= expected.gone, `${name}: withdrawn digests were gone after ${probes.gone} ms`)
}
