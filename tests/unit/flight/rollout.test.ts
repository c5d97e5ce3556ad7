import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { BLOCK, FAULTS, type Rollout, rollOut } from './rollout.ts'

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

test('nodes that pull an image at once all get it in the time of one, and about one image leaves the registry', async () => {
  const images: number[] = []
  const quiet = fc.record({ ...size, faults: fc.constant([]) })
  const check = async (rollout: Rollout) => {
    const outcome = await rollOut(rollout)
    images.push(outcome.images)
    const { nodes, layers, layerSize, link, upstream } = rollout
    // The last one begins within 1.5 s. Each hop takes the time of a block longer, and no node waits for much more than a second.
    const latest = 3_000 + (layers * layerSize) / Math.min(link, upstream) + (nodes * BLOCK) / link
    assert.ok(outcome.ms < latest, `${outcome.ms} ms`)
  }
  await fc.assert(fc.asyncProperty(quiet, check), { numRuns: 10, seed: 1 })
  const average = images.reduce((sum, one) => sum + one, 0) / images.length
  assert.ok(average < 1.2, `${average} images`)
})

test('nodes in a long line wait for their first byte, and nobody leaves the line', async () => {
  const [nodes, layerSize, link] = [100, 2 * BLOCK, 700]
  const rollout = { seed: 1, nodes, layers: 1, layerSize, link, upstream: link, isContainerd2: false, faults: [] }
  const { images, leaves, ms } = await rollOut(rollout)
  assert.ok(ms > 6_000, 'the last one waits for longer than it would for a node above which are few')
  assert.deepEqual([leaves, images < 1.1], [0, true])
})

test('nodes that pull an image at once get it whatever happens to others, and leave nothing open', async () => {
  const hit = fc.record({ ...size, faults: fc.array(fault, { maxLength: 3 }) })
  await fc.assert(
    fc.asyncProperty(hit, async (rollout) => void (await rollOut(rollout))),
    { numRuns: 15 },
  )
})
