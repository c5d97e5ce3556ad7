/** Pulls through the mirror, with every configuration that changes how containerd pulls. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { byMajor, type ConfigChoices, containerdConfig, requestsFor, testCluster } from './harness/index.ts'

const MIB = 1 << 20

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
const image = await registry.push(await cluster.makeImage({ seed: 'ways', layers }), 'team/ways:v1')
await holder.pull(image.reference)

for (const [index, { name }] of WAYS.entries()) {
  test(`pull: ${name}: everything comes from another node, with upstream up and down`, async () => {
    const node = cluster.node(`asker${index}`)
    await node.untilOffered(image)
    const asked = await registry.requestsDuring(() => node.pull(image.reference))
    assert.deepEqual(requestsFor(image.digests, asked), [])
    assert.deepEqual(await node.wrongFiles(image.reference, image), [])
    await node.removeImage(image.reference)
    await registry.whileDown(async () => {
      await node.untilResolved(image)
      await node.pull(image.reference)
    })
    assert.deepEqual(await node.wrongFiles(image.reference, image), [])
  })
}
