/** What Prometheus' own tool says about the metrics and the dashboard's queries. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { run, tryRun } from './harness/command.ts'
import { metricsOf, testCluster } from './harness/index.ts'

const DASHBOARD = new URL('../../k8s/chart/dashboard.json', import.meta.url)
const ALERTS = fileURLToPath(new URL('alerts.yaml', DASHBOARD))

const cluster = await testCluster({
  nodes: ['a', { name: 'b', runtime: 'bun' }, { name: 'c', runtime: 'deno' }],
  registry: true,
})
const [a, b, c] = [cluster.node('a'), cluster.node('b'), cluster.node('c')]

/** Every series with its value. */
function samples(metrics: string): ReadonlyMap<string, number> {
  const lines = metrics.split('\n').filter((line) => line !== '' && !line.startsWith('#'))
  return new Map(lines.map((line) => [line.slice(0, line.lastIndexOf(' ')), Number(line.slice(line.lastIndexOf(' ')))]))
}

test('metrics: promtool accepts them before and after a pull, on each runtime', async () => {
  const image = await cluster.registry.push(
    await cluster.makeImage({ seed: 'metrics', layers: [300_000] }),
    'team/metrics:v1',
  )
  const before = [await metricsOf(a)]
  await a.pull(image.reference)
  for (const node of [b, c]) {
    // The metrics count this request too: the test asks in its own way.
    await node.untilOffered(image)
    before.push(await metricsOf(node))
    await node.pull(image.reference)
  }
  for (const [index, node] of cluster.nodes.entries()) {
    const after = await metricsOf(node)
    for (const metrics of [before[index] ?? '', after]) {
      const { code, stdout, stderr } = await tryRun('promtool', ['check', 'metrics'], { input: metrics })
      assert.deepEqual([code, stdout, stderr], [0, '', ''], node.name)
    }
    // A pull adds no new series, whose first value `rate()` would miss.
    const known = samples(before[index] ?? '')
    assert.deepEqual(
      // Series about a registry exist only after somebody has named it.
      [...samples(after).keys()].filter((name) => !known.has(name) && !name.includes('{registry=')),
      [],
      node.name,
    )
  }
})

test('metrics: the figures of the process and its event loop are real on each runtime', async () => {
  for (const node of cluster.nodes) {
    const values = samples(await metricsOf(node))
    const figure = (name: string) => values.get(name) ?? assert.fail(`${node.name} has no ${name}`)
    assert.ok(figure('process_cpu_seconds_total') > 0.02)
    assert.ok(figure('process_resident_memory_bytes') > 20 << 20)
    assert.ok(figure('process_heap_bytes') > 1 << 20)
    assert.ok(figure('process_open_fds') > 10)
    assert.ok(figure('process_max_fds') >= figure('process_open_fds'))
    assert.ok(Math.abs(Date.now() / 1000 - figure('process_start_time_seconds')) < 3600)
    assert.ok(figure('swarmirror_event_loop_lag_seconds_count') > 0)
    assert.equal(figure('swarmirror_store_up'), 1)
  }
})

test('metrics: Prometheus understands every query of the dashboard', async () => {
  const { panels } = JSON.parse(readFileSync(DASHBOARD, 'utf8')) as {
    panels: { title: string; targets: { expr: string }[] }[]
  }
  const questions = panels.flatMap(({ targets }) => targets.map(({ expr }) => expr))
  assert.ok(questions.length > 10)
  for (const question of questions) {
    // Grafana fills these in.
    const filled = question.replaceAll('$__rate_interval', '5m').replaceAll('$__range', '1h').replaceAll(/\$\w+/g, '.*')
    await run('promtool', ['--experimental', 'promql', 'format', filled])
  }
})

test("metrics: Prometheus accepts the chart's alerts as rules", async () => {
  assert.match(await run('promtool', ['check', 'rules', '--lint-fatal', ALERTS]), /SUCCESS: \d+ rules found/)
})

test('metrics: a registry that does not answer is reported although a node asks for it only every 5 minutes', async () => {
  const series = 'swarmirror_upstream_up{node="a",registry="registry.example"}'
  /** Values of 5 minutes: a mirror looks for a minute after it was asked, and then no longer knows the state. */
  const asked = (value: 0 | 1) => `${value} ${value} stale ${'_ '.repeat(7)}`
  const isReported = async (values: string, minutes: number) => {
    const dir = await mkdtemp(join(tmpdir(), 'swarmirror-alerts-'))
    try {
      const alerts = [{ eval_time: `${minutes}m`, alertname: 'SwarmirrorUpstreamSilent', exp_alerts: [] }]
      const tests = [{ interval: '30s', input_series: [{ series, values }], alert_rule_test: alerts }]
      const file = join(dir, 'tests.yaml')
      await writeFile(file, JSON.stringify({ rule_files: [ALERTS], evaluation_interval: '30s', tests }))
      const { code, stdout, stderr } = await tryRun('promtool', ['test', 'rules', file])
      assert.ok(code === 0 || stderr.includes('got:['), stdout + stderr)
      return code !== 0
    } finally {
      await rm(dir, { recursive: true, force: true })
    }
  }
  assert.equal(await isReported(asked(1).repeat(4), 19), false)
  assert.equal(await isReported(asked(1) + asked(0).repeat(3), 9), false, 'for less than 5 minutes')
  assert.equal(await isReported(asked(1) + asked(0).repeat(3), 19), true)
  assert.equal(await isReported(asked(0).repeat(4) + asked(1), 21), false, 'it answers again')
})
