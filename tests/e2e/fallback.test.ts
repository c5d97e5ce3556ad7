import assert from 'node:assert/strict'
import { test } from 'node:test'
import { requestsFor, testCluster } from './harness/index.ts'

const cluster = await testCluster({ nodes: [{ name: 'a', start: ['containerd'] }], registry: true })
const a = cluster.node('a')

test('fallback: without its mirror a node pulls everything from upstream', async () => {
  const made = await cluster.makeImage({ seed: 'fallback', layers: [100_000, 2 << 20] })
  const image = await cluster.registry.push(made, 'team/fallback:v1')
  const asked = await cluster.registry.requestsDuring(() => a.pull(image.reference))
  const missing = image.digests.filter((digest) => requestsFor([digest], asked).length === 0)
  assert.deepEqual(missing, [], 'digests that nobody asked upstream for')
  assert.deepEqual(await a.wrongFiles(image.reference, image), [])
  const listed = await a.images()
  assert.deepEqual(
    listed.map(({ tags }) => tags),
    [[image.reference]],
  )
})
