import assert from 'node:assert/strict'
import { afterEach, test } from 'node:test'
import { digestKey } from '../../lib/oci/key.ts'
import { blobPath, type Node, type PushedImage, testCluster, until } from './harness/index.ts'

const cluster = await testCluster({ nodes: ['a', 'b', 'c'], registry: true })
const { registry } = cluster
const [a, b, c] = [cluster.node('a'), cluster.node('b'), cluster.node('c')]

const LAYER = 30_000_000
/** In bytes per second: the layer takes longer than a test's other work, even on a very busy machine. */
const SLOW = 2_000_000
/** How many bytes of the layer have arrived when something happens: enough to be in the middle of it. */
const MIDDLE = 1_000_000

/** curl's exit code for a body that ended early with FIN. RST would be 56. */
const PARTIAL_FILE = 18

const push = async (name: string) =>
  await registry.push(await cluster.makeImage({ seed: name, layers: [LAYER] }), `${name}:v1`)

/** Every test begins with the other nodes running, and with a B that has just started and serves at full speed. */
afterEach(async () => {
  await b.network.unshape('out')
  if (b.mirror.running) await b.mirror.kill()
  for (const { mirror } of cluster.nodes) if (!mirror.running) await mirror.start()
})

/** Makes B the only holder of the image, and C slowly download the layer from B, until C is in its middle. */
async function inTheMiddle(image: PushedImage): Promise<ReturnType<Node['startCurl']>> {
  await b.pull(image.reference)
  await c.untilOffered(image)
  await b.network.shape('out', SLOW)
  const [layer] = image.own.layers
  const transfer = c.startCurl(blobPath(image, layer?.digest ?? ''))
  await until('the transfer to be in its middle', async () => (await transfer.received()) > MIDDLE)
  return transfer
}

test('stop: SIGTERM makes a mirror withdraw, finish the running transfer, and exit with 0', async () => {
  const image = await push('team/stop')
  const transfer = await inTheMiddle(image)
  const stopped = b.mirror.stop()
  await until('the mirror of B to say that it is not ready', async () => !(await b.isReady()))
  await a.untilGone(image)
  assert.deepEqual(Object.values(await cluster.announcers(image.digests.map(digestKey))).flat(), [])
  assert.ok((await transfer.received()) < LAYER, 'expected the transfer to still run')
  await b.network.unshape('out')
  const result = await transfer.result
  assert.deepEqual([result.exitCode, result.status, result.size], [0, 200, image.own.layers[0]?.size])
  assert.equal(await stopped, 0)
  await b.mirror.start()
  await a.untilOffered(image)
})

test('stop: SIGTERM makes an idle mirror exit with 0', async () => {
  assert.equal(await a.mirror.stop(), 0)
  await a.mirror.start()
})

test('stop: when a peer is killed in mid-body, the transfer ends with FIN', async () => {
  const image = await push('team/killed')
  const transfer = await inTheMiddle(image)
  await b.mirror.kill()
  const result = await transfer.result
  assert.equal(result.exitCode, PARTIAL_FILE, result.error)
  assert.ok(result.size >= MIDDLE && result.size < LAYER, `${result.size} bytes`)
})

test('stop: when a peer is killed in mid-body, the pull continues upstream at the offset', async () => {
  const image = await push('team/resumed')
  await b.pull(image.reference)
  await c.untilOffered(image)
  await b.network.shape('out', SLOW)
  const [layer] = image.own.layers
  assert.ok(layer)
  const asked = await registry.requestsDuring(async () => {
    const pulled = c.pull(image.reference)
    await until('the pull to be in the middle of the layer', async () => (await c.ingested(layer.digest)) > MIDDLE)
    await b.mirror.kill()
    await pulled
  })
  assert.deepEqual(await c.wrongFiles(image.reference, image), [])
  const upstream = asked.filter(({ target }) => target.includes(layer.digest))
  assert.deepEqual(
    upstream.map(({ status }) => status),
    [206],
  )
  assert.ok((upstream[0]?.bytes ?? 0) < LAYER - MIDDLE, `${upstream[0]?.bytes} bytes from upstream`)
})
