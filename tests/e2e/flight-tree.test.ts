/** How many nodes follow the same node: several if the registry is slower than their links, else one. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createCluster, logLines, type Node, type PushedImage } from './harness/index.ts'

const NAMES = ['a', 'b', 'c', 'd', 'e', 'f']

/**
 * Lets all nodes pull a new image at once. Before, each pulls another image from a node, so that they know what their links carry.
 *
 * @param link what a node can send and receive, and `registry` what the registry can, in Mbit/s
 * @param megabytes size of the image
 * @returns how many nodes follow each node in the end, the most first; and how often a node changed whom it follows half-way
 */
async function rollOut(link: number, registry: number, megabytes: number) {
  const nodes = NAMES.map((name) => ({ name, flags: { 'lookup-timeout': undefined } }))
  const cluster = await createCluster({ nodes, registry: true })
  try {
    const shape = async (network: Node['network'], mbits: number) => {
      for (const way of ['out', 'in'] as const) await network.shape(way, (mbits * 1_000_000) / 8)
    }
    for (const { network } of cluster.nodes) await shape(network, link)
    await shape(cluster.registry.network, registry)
    const push = async (name: string, size: number): Promise<PushedImage> =>
      await cluster.registry.push(await cluster.makeImage({ seed: name, layers: [size] }), `team/${name}:v1`)
    const before = await push('before', 8_000_000)
    const [first, ...others] = cluster.nodes
    assert.ok(first)
    await first.pull(before.reference)
    await first.untilOffered(before)
    for (const node of others) await node.pull(before.reference)
    const image = await push('after', megabytes * 1_000_000)
    await Promise.all(cluster.nodes.map((node) => node.pull(image.reference, { timeoutMs: 120_000 })))
    for (const node of cluster.nodes) assert.deepEqual(await node.wrongFiles(image.reference, image), [])
    const layer = image.own.layers[0]?.digest ?? assert.fail('no layer')
    const followed = cluster.nodes.map(({ mirror }) =>
      logLines(mirror).filter(({ event, key }) => event === 'following' && String(key).endsWith(layer)),
    )
    const parents = followed.flatMap((lines) => lines.slice(-1)).map(({ parent }) => JSON.stringify(parent))
    const children = [...Map.groupBy(parents, (parent) => parent).values()].map(({ length }) => length)
    const moved = followed.flat().filter(({ offset }) => Number(offset) > 0).length
    return { children: children.sort((a, b) => b - a), moved }
  } finally {
    await cluster.close()
  }
}

test('flight: with a slow registry several nodes follow the same one, and nodes that were deeper continue there at their byte', async () => {
  const { children, moved } = await rollOut(200, 25, 24)
  assert.ok((children[0] ?? 0) > 1 && moved > 0, `${children} follow, ${moved} moved`)
})

test('flight: with links as fast as the registry, each node has one follower', async () => {
  const { children, moved } = await rollOut(50, 50, 40)
  assert.ok(children[0] === 1 && moved === 0, `${children} follow, ${moved} moved`)
})
