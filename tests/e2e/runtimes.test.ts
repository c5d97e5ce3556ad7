import assert from 'node:assert/strict'
import { test } from 'node:test'
import { requestsFor, testCluster } from './harness/index.ts'

const cluster = await testCluster({
  nodes: [
    { name: 'node', runtime: 'node' },
    { name: 'deno', runtime: 'deno' },
    { name: 'bun', runtime: 'bun' },
  ],
  registry: true,
})

for (const holder of cluster.nodes) {
  test(`runtimes: mirrors on the other runtimes pull what the one on ${holder.name} has`, async () => {
    const made = await cluster.makeImage({ seed: holder.name, layers: [1 << 20, 8 << 20] })
    const image = await cluster.registry.push(made, `team/from-${holder.name}:v1`)
    await holder.pull(image.reference)
    const others = cluster.nodes.filter((node) => node !== holder)
    for (const node of others) await node.untilOffered(image)
    const asked = await cluster.registry.requestsDuring(() =>
      Promise.all(others.map((node) => node.pull(image.reference))),
    )
    assert.deepEqual(requestsFor(image.digests, asked), [])
    for (const node of others) assert.deepEqual(await node.wrongFiles(image.reference, image), [])
  })
}
