/** The page of a node whose containerd hangs: it is there to say so. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Status } from '../../lib/page/status.ts'
import type { TraceStep } from '../../lib/page/trace.ts'
import { testCluster, until } from './harness/index.ts'

/** Longest that a person may wait for the page, in seconds: the page itself gives up after as long. */
const PATIENCE = '5'

const cluster = await testCluster({ nodes: ['a', 'b'], registry: true })
const [a, b] = [cluster.node('a'), cluster.node('b')]

test('page: a containerd that hangs hangs neither the page nor a trace', async () => {
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
