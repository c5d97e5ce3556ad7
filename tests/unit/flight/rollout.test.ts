import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { FAULTS, rollOut } from './rollout.ts'

const size = {
  seed: fc.nat(),
  nodes: fc.integer({ min: 2, max: 6 }),
  layers: fc.integer({ min: 1, max: 8 }),
  layerSize: fc.integer({ min: 100_000, max: 1_000_000 }),
  link: fc.constantFrom(300, 1_250, 12_500),
  upstream: fc.constantFrom(300, 1_250),
  isContainerd2: fc.boolean(),
}
const fault = fc.record({ at: fc.nat(6_000), node: fc.nat(5), fault: fc.constantFrom(...FAULTS) })

test('nodes that pull an image at once all get it, and about one image leaves the registry', async () => {
  const images: number[] = []
  const quiet = fc.record({ ...size, faults: fc.constant([]) })
  await fc.assert(
    fc.asyncProperty(quiet, async (rollout) => void images.push((await rollOut(rollout)).images)),
    { numRuns: 10, seed: 1 },
  )
  const average = images.reduce((sum, one) => sum + one, 0) / images.length
  assert.ok(average < 1.2, `${average} images`)
})

test('nodes that pull an image at once get it whatever happens to others, and leave nothing open', async () => {
  const hit = fc.record({ ...size, faults: fc.array(fault, { maxLength: 3 }) })
  await fc.assert(
    fc.asyncProperty(hit, async (rollout) => void (await rollOut(rollout))),
    { numRuns: 15 },
  )
})
