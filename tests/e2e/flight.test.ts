/** Nodes that pull one image at once while nobody has it: one of them gets it from upstream, the others get it from each other. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  byMajor,
  containerdConfig,
  metricsOf,
  type Node,
  type PushedImage,
  testCluster,
  totalOf,
} from './harness/index.ts'

/** What each node and the registry can send and receive, in bytes per second: 100 Mbit/s. */
const LINK = 12_500_000
const NAMES = ['a', 'b', 'c', 'd', 'e']

/** On containerd 2, these pull without the transfer service. */
const local = byMajor({ 1: {}, 2: { containerdConfig: containerdConfig({ localPull: true }) } })

const cluster = await testCluster({
  nodes: NAMES.map((name) => ({
    ...{ name, flags: { flight: 'on', 'lookup-timeout': undefined } },
    ...(['b', 'd'].includes(name) && local),
  })),
  registry: true,
})
for (const { network } of [...cluster.nodes, cluster.registry]) {
  await network.shape('out', LINK)
  await network.shape('in', LINK)
}

/** Lets all nodes pull at once. Returns how often the image left the registry and how long each pull took. */
async function pullAtOnce(image: PushedImage): Promise<{ images: number; seconds: number[] }> {
  const { registry, nodes } = cluster
  const before = await registry.network.carried()
  const seconds = await Promise.all(
    nodes.map(async (node) => {
      const start = performance.now()
      await node.pull(image.reference, { timeoutMs: 120_000 })
      return (performance.now() - start) / 1000
    }),
  )
  const after = await registry.network.carried()
  const bytes = image.own.layers.reduce((sum, { size }) => sum + size, 0)
  for (const node of nodes) assert.deepEqual(await node.wrongFiles(image.reference, image), [])
  return { images: (after.out - before.out) / bytes, seconds }
}

async function flightsOf(node: Node): Promise<string> {
  const metrics = await metricsOf(node)
  const [led, followed] = ['leader', 'follower'].map((role) =>
    totalOf(metrics, 'flights', `role="${role}",outcome="\\w+"`),
  )
  return `${node.name} led ${led}, followed ${followed}, left ${totalOf(metrics, 'flight_left')}`
}

let last: PushedImage | undefined

/**
 * The most copies of an image that may leave the registry. Without flights 5 do; 1.0 is usual.
 */
for (const [megabytes, layers, most] of [
  [20, 1, 2],
  [20, 4, 2],
  [20, 10, 2],
] as const) {
  test(`flight: ${megabytes} MB in ${layers} layers leave the registry once, or little more`, async () => {
    const seed = `flight ${megabytes} ${layers}`
    const sizes = Array.from({ length: layers }, () => Math.floor((megabytes * 1_000_000) / layers))
    const image = await cluster.registry.push(
      await cluster.makeImage({ seed, layers: sizes }),
      `team/flight-${megabytes}-${layers}:v1`,
    )
    const { images, seconds } = await pullAtOnce(image)
    const told = await Promise.all(cluster.nodes.map(flightsOf))
    console.log(`${images.toFixed(2)} images, ${seconds.map((s) => s.toFixed(1)).join(' ')} s; ${told.join('; ')}`)
    assert.ok(images < most, `${images.toFixed(2)} images left the registry`)
    last = image
  })
}

test('flight: an image that all nodes have removed leaves the registry once more, not once per node', async () => {
  const image = last ?? assert.fail('no image was pulled')
  for (const node of cluster.nodes) await node.removeImage(image.reference)
  for (const node of cluster.nodes) await node.untilGone(image)
  const { images } = await pullAtOnce(image)
  console.log(`${images.toFixed(2)} images, after all nodes removed it`)
  assert.ok(images < 2, `${images.toFixed(2)} images left the registry`)
})
