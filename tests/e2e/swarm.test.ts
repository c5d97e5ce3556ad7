import assert from 'node:assert/strict'
import { test } from 'node:test'
import { logLines, type Node, type NodeOptions, testCluster, until } from './harness/index.ts'

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

/** Lets a node know others, with a mirror that runs: each test begins with what it needs, however the one before has ended. */
async function join(node: Node, others: Node[]): Promise<void> {
  await know(node, others)
  if (!node.mirror.running) await node.mirror.start()
}

/** Lets A hold the image. */
async function hold(): Promise<void> {
  await join(a, [a])
  await a.pull(image.reference)
}

test('swarm: a node that knows only itself is ready, and says that it is alone', async () => {
  await know(a, [a])
  await a.mirror.start()
  assert.equal(await a.isReady(), true)
  const joined = logLines(a.mirror).find(({ event }) => event === 'swarm joined')
  assert.deepEqual([joined?.alone, joined?.neighbours], [true, 0])
  await a.pull(image.reference)
})

test('swarm: a node that comes later finds what is there', async () => {
  await hold()
  await join(b, [a, b])
  await b.untilOffered(image)
})

test('swarm: a node whose bootstrap name does not resolve yet is not ready, names it, and joins when it does', async () => {
  await hold()
  await know(c, [])
  c.mirror.spawn()
  await until('C to name what does not resolve', async () =>
    logLines(c.mirror).some(
      ({ event, reasons }) => event === 'not ready' && String(reasons).endsWith(`yet: ${SERVICE}`),
    ),
  )
  assert.equal(await c.isReady(), false)
  assert.deepEqual([...new Set(await c.statuses(image))], [404])
  await know(c, [a, b, c])
  await c.untilOffered(image)
  await c.mirror.ready()
})

test('swarm: a node that was killed and comes back is found again', async () => {
  await hold()
  for (const node of [b, c]) await join(node, [a, b, c])
  await b.untilOffered(image)
  await a.mirror.kill()
  await b.untilGone(image)
  await a.mirror.start()
  await b.untilOffered(image)
  await c.untilOffered(image)
})

test('swarm: the nodes find each other after all were killed and started at once', async () => {
  await hold()
  for (const node of cluster.nodes) await join(node, [a, b, c])
  await Promise.all(cluster.nodes.map(({ mirror }) => mirror.kill()))
  await Promise.all(cluster.nodes.map(({ mirror }) => mirror.start()))
  for (const node of cluster.nodes) await node.untilOffered(image)
})
