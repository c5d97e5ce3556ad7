/** Pulls during a rolling upgrade of the DaemonSet: one mirror after the other stops and starts again. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { type Node, type PushedImage, testCluster } from './harness/index.ts'

const cluster = await testCluster({ nodes: ['a', 'b', 'c'], registry: true })
const { nodes, registry } = cluster

/** In bytes. */
const LAYERS = [3_000_000, 1_500_000, 200_000]
/** How many rounds of upgrades there are: more than the least only while some mirror was never away during a pull. */
const ROUNDS = { least: 2, most: 8 }
/** In bytes per second: a pull of those layers takes at least a second, so that mirrors stop in the middle of some. */
const LINK = 6_000_000

interface Pulled {
  readonly node: Node
  readonly reference: string
  /** The mirrors that were being replaced when the pull began and when it ended. */
  readonly during: readonly string[]
}

test('upgrade: upgrading the DaemonSet never breaks running pulls', async () => {
  const images: PushedImage[] = []
  for (let count = 1; count <= 3; count++) {
    const image = await cluster.makeImage({ seed: `upgrade ${count}`, layers: LAYERS })
    images.push(await registry.push(image, `team/upgrade:v${count}`))
  }
  // Each image starts on one node, so that every node pulls from every other one.
  for (const [index, node] of nodes.entries()) await node.pull(images[index]?.reference ?? '')
  for (const node of nodes) for (const image of images) await node.untilOffered(image)
  for (const { network } of nodes) await network.shape('out', LINK)

  let replaced = 'none'
  let over = false
  const pulls: Pulled[] = []
  /** Pulls on one node what others have, again and again. A failed pull ends the test. */
  const keepPulling = async (node: Node) => {
    const others = images.filter((_, index) => nodes[index] !== node)
    while (!over) {
      for (const image of others) {
        const before = replaced
        await node.pull(image.reference)
        pulls.push({ node, reference: image.reference, during: [before, replaced] })
        assert.deepEqual(await node.wrongFiles(image.reference, image), [])
        // Its content goes too, so that the next pull finds nothing here.
        await node.removeImage(image.reference)
      }
      await setImmediate()
    }
  }
  /** Whether the mirror of that node was away during a pull of its own node, and during a pull of another node. */
  const disturbed = (name: string) => {
    const during = pulls.filter(({ during }) => during.includes(name))
    return { own: during.some(({ node }) => node.name === name), others: during.some(({ node }) => node.name !== name) }
  }
  const isSeen = () => nodes.map(({ name }) => disturbed(name)).every(({ own, others }) => own && others)
  const upgrade = async () => {
    // Like the DaemonSet's strategy: the next node follows when the one before is ready.
    for (let round = 1; round <= ROUNDS.least || (round <= ROUNDS.most && !isSeen()); round++) {
      for (const node of nodes) {
        replaced = node.name
        assert.equal(await node.mirror.stop(), 0, `the mirror of ${node.name} must exit with 0 within its grace period`)
        await node.mirror.start()
      }
    }
    replaced = 'none'
  }
  const upgraded = upgrade().finally(() => {
    over = true
  })
  const all = await Promise.allSettled([upgraded, ...nodes.map(keepPulling)])
  assert.deepEqual(
    all.flatMap((result) => (result.status === 'rejected' ? [String(result.reason)] : [])),
    [],
  )
  for (const { name } of nodes) assert.deepEqual(disturbed(name), { own: true, others: true }, name)
})
