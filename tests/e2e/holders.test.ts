import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import { digestKey } from '../../lib/oci/key.ts'
import { blobPath, logLines, type Node, type PushedImage, testCluster, until } from './harness/index.ts'

const cluster = await testCluster({ nodes: ['a', 'b', 'c'], registry: true })
const { registry } = cluster
const [a, b, c] = [cluster.node('a'), cluster.node('b'), cluster.node('c')]

const push = async (name: string) =>
  await registry.push(await cluster.makeImage({ seed: name, layers: [50_000, 1 << 20] }), `${name}:v1`)

/** Pulls on one node, without upstream, what another node has. */
async function assertPulls(node: Node, image: PushedImage): Promise<void> {
  await node.untilOffered(image)
  await registry.whileDown(async () => {
    await node.untilResolved(image)
    await node.pull(image.reference)
  })
  assert.deepEqual(await node.wrongFiles(image.reference, image), [])
}

/** "Within seconds": more than an order of magnitude above what it takes, for a busy machine. */
const SOON = { timeoutMs: 30_000 }

/** Every test begins with working nodes, however the one before ended. */
afterEach(async () => {
  await registry.network.unshape('out')
  await Promise.all(
    cluster.nodes.map(async ({ containerd, mirror }) => {
      if (!containerd.running) await containerd.start()
      if (!mirror.running) await mirror.start()
    }),
  )
})

test('holders: nobody offers an image soon after all holders removed it', async () => {
  const image = await push('team/removed')
  await a.pull(image.reference)
  await b.untilOffered(image)
  await b.pull(image.reference)
  const keys = image.digests.map(digestKey)
  await until('both to announce it', async () =>
    Object.values(await cluster.announcers(keys)).every((names) => names.join() === 'a,b'),
  )
  await a.removeImage(image.reference)
  await b.removeImage(image.reference)
  for (const node of cluster.nodes) {
    await node.untilGone(image, SOON)
    assert.deepEqual(
      (await node.content()).filter((digest) => image.digests.includes(digest)),
      [],
    )
  }
  await until(
    'all announcements to be withdrawn',
    async () => Object.values(await cluster.announcers(keys)).every((names) => names.length === 0),
    SOON,
  )
  await a.pull(image.reference)
  await c.untilOffered(image)
})

test('holders: others find a layer as soon as it is complete, while the pull goes on', async () => {
  const image = await registry.push(
    await cluster.makeImage({ seed: 'early', layers: [300_000, 30_000_000] }),
    'team/early:v1',
  )
  const [small, large] = image.own.layers
  assert.ok(small !== undefined && large !== undefined)
  // The large layer takes half a minute.
  await registry.network.shape('out', 1_000_000)
  const pulled = a.pull(image.reference)
  pulled.catch(() => undefined)
  await until('B to find the small layer', async () => {
    const { status, headers } = await b.curl(blobPath(image, small.digest))
    return status === 200 && headers.get('x-swarmirror-source') === 'peer'
  })
  // containerd writes whole MiB, so the first bytes take a second to show.
  await until('A to have some of the large layer', async () => (await a.ingested(large.digest)) > 0)
  assert.ok((await a.ingested(large.digest)) < large.size, 'expected A to be in the middle of the large layer')
  // An incomplete layer is not announced.
  const key = digestKey(large.digest)
  assert.deepEqual(await cluster.announcers([key]), { [key]: [] })
  await registry.network.unshape('out')
  await pulled
  await assertPulls(b, image)
})

test('holders: when one of two removes an image, the other still offers it', async () => {
  const image = await push('team/kept')
  await a.pull(image.reference)
  await b.untilOffered(image)
  await b.pull(image.reference)
  await a.removeImage(image.reference)
  await assertPulls(c, image)
})

test('holders: a mirror recovers after its containerd was killed', async () => {
  const before = await push('team/before')
  const after = await push('team/after')
  await b.pull(before.reference)
  await c.untilOffered(before)
  const { pid } = b.mirror

  await b.containerd.kill()
  await until('the mirror of B to say that it is not ready', async () => !(await b.isReady()))
  const { status, body } = await b.admin('/readyz')
  assert.equal(status, 503)
  assert.match(body.toString(), /containerd/)
  assert.equal((await b.admin('/livez')).status, 200)

  await b.containerd.start()
  await until('the mirror of B to be ready again', () => b.isReady())
  await assertPulls(c, before)
  // The mirror also sees what happens from now on.
  await b.pull(after.reference)
  await assertPulls(c, after)
  await b.removeImage(after.reference)
  await c.removeImage(after.reference)
  await a.untilGone(after, SOON)
  assert.equal(b.mirror.pid, pid, 'the mirror was not restarted')
})

test('holders: a mirror that starts before its containerd becomes ready once containerd runs', async () => {
  const image = await push('team/late')
  await b.pull(image.reference)
  await b.mirror.stop()
  await b.containerd.stop()
  b.mirror.spawn()
  await until('the mirror of B to listen', () => logLines(b.mirror).some(({ event }) => event === 'listening'))
  assert.equal(await b.isReady(), false)
  await b.containerd.start()
  await b.mirror.ready()
  await assertPulls(c, image)
})
