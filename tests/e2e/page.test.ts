/** What the page tells about pulls, and that it still works when the node's containerd hangs. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { roleOf } from '../../lib/page/client/pulls.ts'
import type { Status } from '../../lib/page/status.ts'
import type { TraceStep } from '../../lib/page/trace.ts'
import { type Node, testCluster, until } from './harness/index.ts'

/** The longest time that a person may wait for the page, in seconds; the page itself gives up after as long. */
const PATIENCE = '5'

const cluster = await testCluster({ nodes: ['a', 'b'], registry: true })
const [a, b] = [cluster.node('a'), cluster.node('b')]

const statusOf = async (node: Node) =>
  JSON.parse(
    await node.exec('curl', ['--silent', '--fail', '--max-time', PATIENCE, 'http://127.0.0.1:5002/api/status']),
  ) as Status

test('page: shows the parts of a pull, and which came from a peer and which from upstream', async () => {
  const image = await cluster.registry.push(
    await cluster.makeImage({ seed: 'told', layers: [100_000, 2_000_000] }),
    'team/told:v1',
  )
  const roles = ['manifest', 'config', 'layer', 'layer']
  const bytes = [image.own.manifest, image.own.config, ...image.own.layers].reduce((sum, { size }) => sum + size, 0)
  const told = ({ pulls }: Status) => {
    const parts =
      pulls.find(({ name }) => name === image.reference)?.parts.filter(({ key }) => !key.includes('/')) ?? []
    const isKnown = parts.length === 4 && parts.every((part) => part.endedAt !== undefined && part.size !== undefined)
    return isKnown && parts.reduce((sum, { size = 0 }) => sum + size, 0) === bytes ? parts : undefined
  }
  await a.pull(image.reference)
  await until('the first node to show what came from upstream', async () => {
    const status = await statusOf(a)
    const parts = told(status) ?? []
    const isRight =
      parts.every(({ source }) => source === 'none') && parts.map(roleOf).sort().join() === roles.sort().join()
    return parts.length > 0 && isRight && status.totals.bytes.upstream === bytes
  })
  await b.untilOffered(image)
  await b.pull(image.reference)
  const peer = (await statusOf(a)).node.address
  await until('the second node to show what came from the first one', async () => {
    const status = await statusOf(b)
    const parts = told(status) ?? []
    const isRight =
      parts.every(({ source, transfers }) => source === 'peer' && transfers[0]?.attempts[0]?.peer === peer) &&
      parts.map(roleOf).sort().join() === roles.sort().join()
    return parts.length > 0 && isRight && status.totals.bytes.upstream === 0 && status.totals.bytes.peer >= bytes
  })
  await until('the nodes to know each other', async () => (await statusOf(b)).swarm.versions[0]?.[1] === 2)
})

test('page: shows how much of a download from upstream has arrived', async () => {
  const image = await cluster.registry.push(
    await cluster.makeImage({ seed: 'slow', layers: [4_000_000] }),
    'team/slow:v1',
  )
  await cluster.registry.network.shape('out', 1_000_000)
  const pulled = a.pull(image.reference)
  try {
    await until('a part of the layer to arrive', async () => {
      const { pulls } = await statusOf(a)
      const layer = pulls.find(({ name }) => name === image.reference)?.parts.find(({ size = 0 }) => size > 4_000_000)
      return layer?.arrived !== undefined && layer.arrived > 0 && layer.arrived < 4_000_000
    })
  } finally {
    await cluster.registry.network.unshape('out')
    await pulled
  }
})

test('page: shows which peer fell silent, after how many bytes, and that the rest came from upstream', async () => {
  const image = await cluster.registry.push(
    await cluster.makeImage({ seed: 'silent', layers: [12_000_000] }),
    'team/silent:v1',
  )
  const layerOf = ({ pulls }: Status) =>
    pulls.find(({ name }) => name === image.reference)?.parts.find(({ size = 0 }) => size > 12_000_000)
  await a.pull(image.reference)
  await b.untilOffered(image)
  const peer = (await statusOf(a)).node.address
  await a.network.shape('out', 2_000_000)
  const pulled = b.pull(image.reference)
  try {
    await until('a part of the layer to arrive from the peer', async () => {
      const [attempt] = layerOf(await statusOf(b))?.transfers[0]?.attempts ?? []
      return attempt?.peer === peer && attempt.bytes > 1_000_000
    })
    await a.network.cutOff()
    await pulled
  } finally {
    await a.network.heal()
    await a.network.unshape('out')
  }
  await until('the page to show the silent peer', async () => {
    const status = await statusOf(b)
    const { source, size = 0, transfers = [] } = layerOf(status) ?? {}
    const [transfer] = transfers
    const given = transfer?.bytes ?? 0
    const [attempt] = transfer?.attempts ?? []
    const isTold =
      source === 'none' && transfer?.outcome === 'failed' && attempt?.peer === peer && attempt.bytes === given
    const failure = status.swarm.nodes.find(({ address }) => address === peer)?.peer?.failure?.why
    return (
      isTold &&
      attempt.ended === 'silent' &&
      failure === 'silent' &&
      status.totals.bytes.upstream >= size - given &&
      given > 0
    )
  })
})

test('page: a hanging containerd blocks neither the page nor a trace', async () => {
  const image = await cluster.registry.push(
    await cluster.makeImage({ seed: 'page', layers: [100_000, 100_000] }),
    'team/page:v1',
  )
  await a.pull(image.reference)
  await b.untilOffered(image)
  b.containerd.pause()
  try {
    const page = async (path: string, args: readonly string[] = []) => {
      const url = `http://127.0.0.1:5002${path}`
      return await b.exec('curl', ['--silent', '--fail', '--max-time', PATIENCE, ...args, url])
    }
    assert.match(await page('/'), /<title>swarmirror/)
    const trace = (
      await page('/api/trace', [
        '--header',
        'content-type: application/json',
        '--data',
        JSON.stringify({ reference: image.reference }),
      ])
    )
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line) as TraceStep)
    const parts = trace.flatMap((step) => (step.step === 'part' ? [step.part] : []))
    assert.deepEqual(
      parts.map(({ role }) => role),
      ['tag', 'manifest', 'config', 'layer', 'layer'],
    )
    for (const { answers, localProblem } of parts) {
      assert.equal(answers[0]?.outcome, 'content')
      assert.ok(localProblem !== undefined)
    }
    await until('the page to say that containerd does not answer', async () => {
      const status = JSON.parse(await page('/api/status')) as Status
      return !status.ready && status.reasons.some((reason) => /containerd|10000 ms|timed out|deadline/i.test(reason))
    })
  } finally {
    b.containerd.resume()
  }
  await until('the mirror of B to be ready again', () => b.isReady())
})
