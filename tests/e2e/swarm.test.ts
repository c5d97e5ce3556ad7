import assert from 'node:assert/strict'
import { test } from 'node:test'
import { logLines, type Node, type NodeOptions, testCluster, until } from './harness/index.ts'

/** The nodes find each other by the name of a headless service, which each node resolves to its own list. */
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

/** Tells a node the others' addresses and makes its mirror run, so that each test begins with what it needs. */
async function join(node: Node, others: Node[]): Promise<void> {
  await know(node, others)
  if (!node.mirror.running) await node.mirror.start()
}

/** Makes A hold the image. */
async function hold(): Promise<void> {
  await join(a, [a])
  await a.pull(image.reference)
}

test('swarm: a node that knows only itself becomes ready, and says that it is alone', async () => {
  await know(a, [a])
  await a.mirror.start()
  assert.equal(await a.isReady(), true)
  const joined = logLines(a.mirror).find(({ event }) => event === 'swarm joined')
  assert.deepEqual([joined?.alone, joined?.neighbours], [true, 0])
  await a.pull(image.reference)
})

test('swarm: a node that joins later finds what others have', async () => {
  await hold()
  await join(b, [a, b])
  await b.untilOffered(image)
})

test('swarm: a node waits, not ready, for its bootstrap name to resolve, names it, and then joins', async () => {
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

// As for a pod of its own that is gone (blackhole, EINVAL), and for what its administrator forbids (prohibit, EACCES).
for (const [kind, address] of [
  ['blackhole', '192.0.2.1'],
  ['prohibit', '192.0.2.2'],
] as const) {
  test(`swarm: a node whose route to the bootstrap address is a ${kind} calls it silent and is ready, and joins later`, async () => {
    await hold()
    for (const { mirror } of cluster.nodes) if (mirror.running) await mirror.kill()
    await c.exec('ip', ['route', 'add', kind, address])
    await c.network.setNames({ [SERVICE]: [address] })
    await c.mirror.start()
    const saying = (text: string) => logLines(c.mirror).some((line) => JSON.stringify(line).includes(text))
    await until('C to say so', async () => saying(`${address} does not answer over TCP`))
    assert.ok(!saying('refuses this node'))
    await join(a, [a])
    await know(c, [a, c])
    await c.untilOffered(image)
  })
}

test('swarm: others find a node again that was killed and came back', async () => {
  await hold()
  for (const node of [b, c]) await join(node, [a, b, c])
  await b.untilOffered(image)
  await a.mirror.kill()
  await b.untilGone(image)
  await a.mirror.start()
  await b.untilOffered(image)
  await c.untilOffered(image)
})

test('swarm: the nodes find each other after all were killed and restarted at once', async () => {
  await hold()
  for (const node of cluster.nodes) await join(node, [a, b, c])
  await Promise.all(cluster.nodes.map(({ mirror }) => mirror.kill()))
  await Promise.all(cluster.nodes.map(({ mirror }) => mirror.start()))
  for (const node of cluster.nodes) await node.untilOffered(image)
})
