import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  byMajor,
  type Node,
  type PushedImage,
  REGISTRY_NAME,
  requestsFor,
  testCluster,
  until,
} from './harness/index.ts'

const cluster = await testCluster({ nodes: ['a', 'b', 'c'], registry: true, mirrored: [REGISTRY_NAME, 'docker.io'] })
const { registry } = cluster
const [a, b, c] = [cluster.node('a'), cluster.node('b'), cluster.node('c')]

const push = async (name: string, layers: number[]) =>
  await registry.push(await cluster.makeImage({ seed: name, layers }), `${name}:v1`)
const first = await push('team/first', [1_000, 3 << 20, 5 << 20])
const second = await push('team/second', [2 << 20])
const third = await push('team/third', [2 << 20, 100])

/** Asserts that the node has the image: its CRI lists it, and the unpacked files are right. */
async function assertUsable(node: Node, image: PushedImage, reference = image.reference): Promise<void> {
  // CRI lists another client's pull only after it has heard of it.
  const find = async () => (await node.images()).find(({ tags, digests }) => [...tags, ...digests].includes(reference))
  await until(`${reference} to be among the images of ${node.name}`, async () => (await find()) !== undefined)
  const listed = (await find()) ?? assert.fail(`${reference} is gone from ${node.name}`)
  const compressed = [image.own.manifest, image.own.config, ...image.own.layers].reduce(
    (sum, { size }) => sum + size,
    0,
  )
  assert.ok(listed.size >= compressed - image.own.manifest.size, `CRI says ${listed.size} of ${compressed} bytes`)
  assert.deepEqual(await node.wrongFiles(reference, image), [])
}

test('pull: an image that no node has comes from upstream', async () => {
  const asked = await registry.requestsDuring(() => a.pull(first.reference))
  const missing = first.digests.filter((digest) => requestsFor([digest], asked).length === 0)
  assert.deepEqual(missing, [], 'digests that nobody asked upstream for')
  await assertUsable(a, first)
})

test('pull: nobody asks upstream for an image that another node has', async () => {
  await a.pull(first.reference)
  await b.untilOffered(first)
  const asked = await registry.requestsDuring(() => b.pull(first.reference))
  assert.deepEqual(requestsFor(first.digests, asked), [])
  await assertUsable(b, first)
})

test('pull: works without upstream, by tag and by digest, with CRI and with ctr', async () => {
  for (const image of [first, second]) await a.pull(image.reference)
  await b.ctrPull(third.reference)
  for (const image of [first, second, third]) await c.untilOffered(image)
  await registry.whileDown(async () => {
    for (const image of [first, second]) for (const node of [b, c]) await node.untilResolved(image)
    await c.untilResolved(third)
    await c.pull(first.reference)
    await assertUsable(c, first)
    await c.pull(second.digestReference)
    await assertUsable(c, second, second.digestReference)
    await c.ctrPull(third.reference)
    await assertUsable(c, third)
    await b.ctrPull(second.digestReference)
    await assertUsable(b, second, second.digestReference)
  })
})

test('pull: gets an image of Docker Hub by its short name', async () => {
  const image = { ...(await push('library/hub', [100_000])), reference: 'docker.io/library/hub:v1' }
  await a.pull('hub:v1')
  await registry.whileDown(async () => {
    await until(
      'C to resolve the tag',
      async () => (await c.curl('/v2/library/hub/manifests/v1?ns=docker.io')).status === 200,
    )
    await c.pull('hub:v1')
  })
  await assertUsable(c, image)
})

test('pull: fails soon without upstream and without a holder', async () => {
  const unknown = await push('team/unknown', [1000])
  await registry.whileDown(() =>
    // containerd 2 reports the mirror's 404: it ranks that above a refused connection (docker/resolver.go).
    assert.rejects(
      () => a.pull(unknown.reference, { timeoutMs: 30_000 }),
      byMajor({ 1: /connection refused/, 2: /not found/ }),
    ),
  )
  await a.pull(unknown.reference)
  await assertUsable(a, unknown)
})

test('pull: works on all nodes at once', async () => {
  const image = await push('team/crowd', [4 << 20, 4 << 20])
  await Promise.all(cluster.nodes.map((node) => node.pull(image.reference)))
  for (const node of cluster.nodes) await assertUsable(node, image)
})
