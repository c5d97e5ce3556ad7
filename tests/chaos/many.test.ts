/**
 * Pulls from several holders whose links are a quarter of the asker's: all of them give, and one that is slow holds up no
 * other. How fast that is, is printed and not checked: a busy machine may be slower. The mirrors are on the runtime that
 * E2E_RUNTIME names.
 */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { type Node, type PushedImage, testCluster } from '../e2e/harness/index.ts'
import { forget, pullUnder, sizeOf, untilHeldBy } from './support/experiment.ts'

const MB = 1_000_000
const LAYERS: readonly number[] = [40 * MB]
/** What each holder may send, and what an asker may get, in bytes per second: links of 100 and of 400 Mbit/s. */
const RATE = 12.5 * MB
const LINK = 50 * MB
/** A holder with a link of 10 Mbit/s. */
const SLOW = 1.25 * MB

const cluster = await testCluster({ nodes: ['a', 'b', 'c', 'd', 'asker', 'other'], registry: true })
const holders = ['a', 'b', 'c', 'd'].map((name) => cluster.node(name))
const last = holders.at(-1) ?? assert.fail()
const [asker, other] = [cluster.node('asker'), cluster.node('other')]
let image: PushedImage

before(async () => {
  image = await cluster.registry.push(await cluster.makeImage({ seed: 'many', layers: LAYERS }), 'team/many:v1')
  for (const holder of holders) await holder.pull(image.reference)
  for (const { network } of holders) await network.shape('out', RATE)
  for (const { network } of [asker, other]) await network.shape('in', LINK)
})

/** Has them pull, from peers alone, and says which part of the bytes each holder has sent. */
async function shares(...askers: readonly Node[]): Promise<readonly number[]> {
  await untilHeldBy(cluster, image, { holders, askers })
  const sent = () => Promise.all(holders.map(async ({ network }) => (await network.carried()).out))
  const before = await sent()
  for (const { ms, upstream } of await Promise.all(
    askers.map((by) => pullUnder(cluster, { what: by.name, asker: by, image })),
  )) {
    assert.deepEqual(upstream, [])
    console.log(`${(sizeOf(image) / 1_000 / ms).toFixed(1)} MB/s`)
  }
  const given = (await sent()).map((bytes, index) => bytes - (before[index] ?? 0))
  for (const by of askers) {
    assert.deepEqual(await by.wrongFiles(image.reference, image), [])
    await forget(by, image)
  }
  const all = given.reduce((sum, bytes) => sum + bytes, 0)
  assert.ok(all < 1.3 * askers.length * sizeOf(image), `${all} bytes were sent`)
  return given.map((bytes) => bytes / all)
}

test('four holders give a quarter each, more or less', async () => {
  const parts = await shares(asker)
  for (const part of parts) assert.ok(part > 0.1, parts.join(', '))
})

test('three holders give nearly all where a fourth one is slow', async () => {
  await last.network.shape('out', SLOW)
  try {
    const parts = await shares(asker)
    assert.ok((parts.at(-1) ?? 1) < 0.15, parts.join(', '))
    for (const part of parts.slice(0, -1)) assert.ok(part > 0.15, parts.join(', '))
  } finally {
    await last.network.shape('out', RATE)
  }
})

test('two askers get all of it at the same time', async () => {
  await shares(asker, other)
})
