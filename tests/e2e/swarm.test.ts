import assert from 'node:assert/strict'
import { test } from 'node:test'
import { logLines, type Node, type NodeOptions, testCluster } from './harness/index.ts'

/** What the nodes know of each other: the name of a headless service, which each resolves in its own way. */
const SERVICE = 'swarm.test'
const options = (name: string): NodeOptions => ({
  name,
  start: ['containerd'],
  flags: { bootstrap: `dns:${SERVICE}:5001` },
})
const cluster = await testCluster({ nodes: ['a', 'b', 'c'].map(options), registry: true })
const [a, b, c] = [cluster.node('a'), cluster.node('b'), cluster.node('c')]

const know = (node: Node, others: Node[]) => node.network.setNames({ [SERVICE]: others.map(({ address }) => address) })
const push = async (name: string) =>
  await cluster.registry.push(await cluster.makeImage({ seed: name, layers: [10_000] }), `${name}:v1`)
const image = await push('team/swarm')

test('swarm: a node that knows only itself is ready, and says that it is alone', async () => {
  await know(a, [a])
  await a.mirror.start()
  assert.equal(await a.isReady(), true)
  const joined = logLines(a.mirror).find(({ event }) => event === 'swarm joined')
  assert.deepEqual([joined?.alone, joined?.neighbours], [true, 0])
  await a.pull(image.reference)
})

test('swarm: a node that comes later finds what is there', async () => {
  await know(b, [a, b])
  await b.mirror.start()
  await b.untilOffered(image)
})

test('swarm: a node whose bootstrap name does not resolve yet joins when it does', async () => {
  await know(c, [])
  await c.mirror.start()
  assert.deepEqual([...new Set(await c.statuses(image))], [404])
  await know(c, [a, b, c])
  await c.untilOffered(image)
})

test('swarm: a node that was killed and comes back is found again', async () => {
  await a.mirror.kill()
  await b.untilGone(image)
  await a.mirror.start()
  await b.untilOffered(image)
  await c.untilOffered(image)
})

test('swarm: the nodes find each other after all were killed and started at once', async () => {
  for (const node of cluster.nodes) await know(node, [a, b, c])
  await Promise.all(cluster.nodes.map(({ mirror }) => mirror.kill()))
  await Promise.all(cluster.nodes.map(({ mirror }) => mirror.start()))
  for (const node of cluster.nodes) await node.untilOffered(image)
})
