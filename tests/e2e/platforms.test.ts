import assert from 'node:assert/strict'
import { test } from 'node:test'
import { digestKey, tagKey } from '../../lib/oci/key.ts'
import { blobPath, manifestPath, REGISTRY_NAME, requestsFor, testCluster, until } from './harness/index.ts'
import { hostPlatform } from './harness/mirror.ts'

const cluster = await testCluster({ nodes: ['a', 'b'], registry: true })
const { registry } = cluster
const [a, b] = [cluster.node('a'), cluster.node('b')]

const platforms = [...new Set([hostPlatform(), 'linux/amd64', 'linux/arm64', 'linux/s390x'])]
const image = await registry.push(
  await cluster.makeImage({ seed: 'platforms', layers: [10_000, 1 << 20], platforms }),
  'team/platforms:v1',
)
const foreign = image.platforms.filter(({ platform }) => platform !== hostPlatform())
const absent = foreign
  .flatMap(({ manifest, config, layers }) => [manifest, config, ...layers])
  .map(({ digest }) => digestKey(digest))
const absentPaths = foreign.flatMap(({ manifest, config, layers }) => [
  manifestPath(image, manifest.digest),
  ...[config, ...layers].map(({ digest }) => blobPath(image, digest)),
])

test('platforms: a node pulls an index from another that holds one of its platforms', async () => {
  assert.equal(platforms.length, 3)
  await a.pull(image.reference)
  await b.untilOffered(image)
  const asked = await registry.requestsDuring(() => b.pull(image.reference))
  assert.deepEqual(requestsFor(image.digests, asked), [])
  assert.deepEqual(await b.wrongFiles(image.reference, image), [])
})

/** Makes both nodes hold the image. */
async function hold(): Promise<void> {
  for (const node of cluster.nodes) await node.pull(image.reference)
}

test('platforms: nodes do not serve what they do not hold', async () => {
  await hold()
  for (const node of cluster.nodes) {
    for (const path of absentPaths) {
      const { status, body } = await node.curl(path)
      assert.equal(status, 404, path)
      const [error] = JSON.parse(body.toString()).errors
      assert.equal(error.code, path.includes('/manifests/') ? 'MANIFEST_UNKNOWN' : 'BLOB_UNKNOWN')
    }
  }
})

test('platforms: nodes announce exactly what they hold', async () => {
  await hold()
  const held = image.digests.map(digestKey)
  const names = [...held, tagKey({ registry: REGISTRY_NAME, repository: image.repository, tag: image.tag })]
  const announced = await until('both nodes to announce what they hold', async () => {
    const found = await cluster.announcers([...names, ...absent])
    return names.every((key) => found[key]?.length === 2) && found
  })
  const expected = [...names.map((key) => [key, ['a', 'b']]), ...absent.map((key) => [key, []])]
  assert.deepEqual(announced, Object.fromEntries(expected))
})
