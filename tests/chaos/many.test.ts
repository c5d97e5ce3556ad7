/**
 * Pulls from several holders whose links are a quarter of the asker's: all of them give, and a slow one holds up no other. The
 * tests print how fast that is beside a pull from one holder, and check only what also holds on a busy machine. The mirrors run on
 * the runtime that E2E_RUNTIME names.
 */
import assert from 'node:assert/strict'
import { before, test } from 'node:test'
import { metricsOf, type Node, type PushedImage, testCluster } from '../e2e/harness/index.ts'
import { forget, pullUnder, sizeOf, untilHeldBy } from './support/experiment.ts'

const MB = 1_000_000
const LAYERS: readonly number[] = [100 * MB]
/** What each holder may send and an asker may receive, in bytes per second: links of 100 and 400 Mbit/s. */
const RATE = 12.5 * MB
const LINK = 50 * MB
/** A holder with a link of 10 Mbit/s. */
const SLOW = 1.25 * MB

const cluster = await testCluster({ nodes: ['a', 'b', 'c', 'd', 'asker', 'other'], registry: true })
const holders = ['a', 'b', 'c', 'd'].map((name) => cluster.node(name))
const first = holders[0] ?? assert.fail()
const last = holders.at(-1) ?? assert.fail()
const [asker, other] = [cluster.node('asker'), cluster.node('other')]
let image: PushedImage
/** The speed of the first pull, from a single holder, in bytes per microsecond. */
let one: number | undefined

before(async () => {
  image = await cluster.registry.push(await cluster.makeImage({ seed: 'many', layers: LAYERS }), 'team/many:v1')
  await first.pull(image.reference)
  await first.network.shape('out', RATE)
  await asker.network.shape('in', LINK)
  await pulls([first], [asker])
  await first.network.unshape('out')
  for (const holder of holders.slice(1)) await holder.pull(image.reference)
  for (const { network } of holders) await network.shape('out', RATE)
  for (const { network } of [asker, other]) await network.shape('in', LINK)
})

/** Lets the askers pull from peers only. Returns how fast their layers came, and which share of the bytes each holder sent. */
async function pulls(from: readonly Node[], askers: readonly Node[]) {
  await untilHeldBy(cluster, image, { holders: from, askers })
  const sent = () => Promise.all(from.map(async ({ network }) => (await network.carried()).out))
  const before = await sent()
  const pulled = askers.map(async (by) => {
    const begun = await transferSeconds(by)
    const { ms, upstream } = await pullUnder(cluster, { what: by.name, asker: by, image })
    assert.deepEqual(upstream, [])
    return { ms, rate: sizeOf(image) / MB / ((await transferSeconds(by)) - begun) }
  })
  const came = await Promise.all(pulled)
  one ??= came[0]?.rate ?? assert.fail()
  const times = came.map(({ rate }) => rate / (one ?? rate))
  for (const [index, { ms, rate }] of came.entries()) {
    const beside = `${times[index]?.toFixed(2)} times one holder`
    console.log(`${askers[index]?.name}: ${rate.toFixed(1)} MB/s, ${beside}; ${Math.round(ms)} ms in all`)
  }
  const given = (await sent()).map((bytes, index) => bytes - (before[index] ?? 0))
  for (const by of askers) {
    assert.deepEqual(await by.wrongFiles(image.reference, image), [])
    await forget(by, image)
  }
  const all = given.reduce((sum, bytes) => sum + bytes, 0)
  assert.ok(all < 1.3 * askers.length * sizeOf(image), `${all} bytes were sent`)
  return { times, parts: given.map((bytes) => bytes / all) }
}

/** Seconds that a node's mirror has spent on transfers, without what its containerd does afterwards. */
async function transferSeconds(node: Node): Promise<number> {
  const [, seconds] =
    /^swarmirror_transfer_seconds_sum\{outcome="complete"\} ([\d.e-]+)$/m.exec(await metricsOf(node)) ?? []
  return Number(seconds)
}

test('four holders give about a quarter each', async () => {
  const { parts, times } = await pulls(holders, [asker])
  for (const part of parts) assert.ok(part > 0.1, parts.join(', '))
  for (const by of times) assert.ok(by > 2, `${by} times as fast as from one`)
})

test('three holders give nearly everything when the fourth is slow', async () => {
  await last.network.shape('out', SLOW)
  try {
    const { parts, times } = await pulls(holders, [asker])
    for (const by of times) assert.ok(by > 1.4, `${by} times as fast as from one`)
    assert.ok((parts.at(-1) ?? 1) < 0.15, parts.join(', '))
    for (const part of parts.slice(0, -1)) assert.ok(part > 0.15, parts.join(', '))
  } finally {
    await last.network.shape('out', RATE)
  }
})

test('two askers at the same time get everything, at about the same speed', async () => {
  const { times } = await pulls(holders, [asker, other])
  assert.ok(Math.min(...times) > Math.max(...times) / 3, times.join(', '))
})
