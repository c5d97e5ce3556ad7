/** Pulls through the mirror, with every configuration that changes how containerd pulls. */
import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import {
  byMajor,
  type ConfigChoices,
  containerdConfig,
  type Daemon,
  requestsFor,
  testCluster,
  until,
} from './harness/index.ts'

const MIB = 1 << 20

/** Bytes per second that make a pull take some seconds, and bytes of its layer that have come in the middle of it. */
const [SLOW, MIDDLE] = [8 * MIB, 3 * MIB]

/** The configurations that this containerd knows; `parallelFetch` splits layers above that size into ranges. */
const WAYS: readonly (ConfigChoices & { readonly name: string })[] = byMajor({
  1: [{ name: 'a file of version 2', file: 2 }],
  2: [
    { name: 'a file of version 2, through the transfer service', file: 2 },
    { name: 'a file of version 3, through the transfer service', file: 3 },
    { name: 'a local pull', localPull: true },
    { name: 'parallel fetch in chunks of 1 MiB', parallelFetch: MIB },
    { name: 'parallel fetch in chunks of 8 MiB, in a local pull', parallelFetch: 8 * MIB, localPull: true },
  ],
})

const cluster = await testCluster({
  nodes: [
    'holder',
    ...WAYS.map((choices, index) => ({ name: `asker${index}`, containerdConfig: containerdConfig(choices) })),
  ],
  registry: true,
})
const { registry } = cluster
const holder = cluster.node('holder')
const layers = [1_000, 3 * MIB, 20 * MIB, ...Array.from({ length: 7 }, (_, index) => 100_000 + index)]
const SIZE = layers.reduce((sum, size) => sum + size)
/** How many bytes the holder may send for each byte of the image: packets and TLS take some percent. */
const MOST_SENT = 1.15
const image = await registry.push(await cluster.makeImage({ seed: 'ways', layers }), 'team/ways:v1')
const largest = image.own.layers[2]?.digest ?? assert.fail('no layer')
await holder.pull(image.reference)

/** Every test begins with one holder, and with everybody's mirror. */
afterEach(async () => {
  await holder.network.unshape('out')
  for (const node of cluster.nodes) {
    if (!node.mirror.running) await node.mirror.start()
    if (node !== holder) await node.removeImage(image.reference)
  }
})

/** What may happen to the mirrors, given that of the node that pulls. */
const FAULTS: Readonly<Record<string, (own: Daemon) => Promise<unknown>>> = {
  'its own mirror is told to stop': (own) => own.stop(),
  'its own mirror is killed': (own) => own.kill(),
  'the only holder is killed': () => holder.mirror.kill(),
}

for (const [index, { name }] of WAYS.entries()) {
  test(`pull: ${name}: everything comes from another node, with upstream up and down`, async () => {
    const node = cluster.node(`asker${index}`)
    await node.untilOffered(image)
    const before = await holder.network.carried()
    const asked = await registry.requestsDuring(() => node.pull(image.reference))
    const sent = (await holder.network.carried()).out - before.out
    assert.deepEqual(requestsFor(image.digests, asked), [])
    assert.ok(sent < MOST_SENT * SIZE, `${sent} bytes were sent for ${SIZE}`)
    assert.deepEqual(await node.wrongFiles(image.reference, image), [])
    await node.removeImage(image.reference)
    await registry.whileDown(async () => {
      await node.untilResolved(image)
      await node.pull(image.reference)
    })
    assert.deepEqual(await node.wrongFiles(image.reference, image), [])
  })

  for (const [what, happens] of Object.entries(FAULTS)) {
    test(`pull: ${name}: ${what} in the middle of a layer, and the pull goes on`, async () => {
      const node = cluster.node(`asker${index}`)
      await node.untilOffered(image)
      await holder.network.shape('out', SLOW)
      const pulled = node.pull(image.reference)
      pulled.catch(() => undefined)
      await until('the middle of the layer', async () => (await node.ingested(largest)) > MIDDLE)
      await happens(node.mirror)
      await pulled
      assert.deepEqual(await node.wrongFiles(image.reference, image), [])
    })
  }
}
