import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createAdminDoor } from '../../../lib/http/admin.ts'
import { combinations, createMetrics } from '../../../lib/observe/metrics.ts'
import { Readiness } from '../../../lib/observe/readiness.ts'
import { createAllMetrics } from '../../fixtures/metrics.ts'

test('metrics are rendered with names, help and labels as Prometheus reads them', async () => {
  const metrics = createMetrics()
  const known = { door: ['registry', 'peer'], found: ['true', 'false'] } as const
  metrics.counters('asked_total', 'Asked.', known).inc({ door: 'registry', found: 'true' })
  metrics.histograms('asking_seconds', 'Time.', [0.001, 0.005], known).observe({ door: 'peer', found: 'false' }, 0.003)
  const { contentType, body } = metrics.render()
  assert.match(contentType, /^text\/plain; version=0\.0\.4/)
  assert.match(body, /^swarmirror_asked_total\{door="registry",found="true"\} 1$/m)
  assert.match(body, /^swarmirror_asking_seconds_bucket\{le="0\.005",door="peer",found="false"\} 1$/m)
  assert.match(body, /^swarmirror_asking_seconds_bucket\{le="0\.001",door="peer",found="false"\} 0$/m)
})

test('metrics add up buckets, and escape the values of labels', () => {
  const metrics = createMetrics()
  const seconds = metrics.histograms('asking_seconds', 'Line\nfeed.', [0.001, 0.005], {})
  for (const value of [0.001, 0.002, 7]) seconds.observe({}, value)
  metrics.gaugesFrom('info', 'Info.', ['what'], () => [[{ what: 'a "b" \\\n' }, 1]])
  const lines = metrics.render().body.split('\n')
  for (const line of [
    '# HELP swarmirror_asking_seconds Line\\nfeed.',
    'swarmirror_asking_seconds_bucket{le="0.001"} 1',
    'swarmirror_asking_seconds_bucket{le="0.005"} 2',
    'swarmirror_asking_seconds_bucket{le="+Inf"} 3',
    'swarmirror_asking_seconds_sum 7.003',
    'swarmirror_asking_seconds_count 3',
    'swarmirror_info{what="a \\"b\\" \\\\\\n"} 1',
  ]) {
    assert.ok(lines.includes(line), line)
  }
})

test('metrics of a mirror have names and help as Prometheus wants them', async () => {
  const { body } = createAllMetrics().render()
  // Every metric has its help, its type and the prefix; counters end with _total, times with _seconds. What is counted of flights is nodes.
  for (const [, name, type] of body.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
    assert.match(name ?? '', /^(?:swarmirror|process)_[a-z_]+$/)
    assert.match(body, new RegExp(`^# HELP ${name} [A-Z].*\\.$`, 'm'))
    assert.equal(type === 'counter', name?.endsWith('_total'), name)
    if (type === 'histogram') assert.match(name ?? '', /_seconds$|^swarmirror_flight_/)
  }
})

test('metrics of a mirror have every series that can be foreseen from the start, at 0', async () => {
  const metrics = createAllMetrics()
  const { body } = metrics.render()
  const lines = body.split('\n')
  for (const { name, type, labels, values } of metrics.descriptions) {
    if (name.startsWith('process_') || name === 'swarmirror_build_info' || name === 'swarmirror_check_findings')
      continue
    // Registries are not known before clients ask for them.
    if (name === 'swarmirror_upstream_up') continue
    const series = type === 'histogram' ? `${name}_count` : name
    if (labels.length === 0) assert.ok(lines.includes(`${series} 0`), series)
    // What a status may be is not known; which combinations are usual is said apart.
    if (labels.length !== 1) continue
    for (const [label, known] of Object.entries(values)) {
      assert.ok(known.length > 1, `${name}: ${label}`)
      for (const value of known) assert.ok(lines.includes(`${series}{${label}="${value}"} 0`), `${series} ${value}`)
    }
  }
  for (const line of [
    'swarmirror_requests_total{door="registry",method="GET",status="200",source="peer"} 0',
    'swarmirror_requests_total{door="registry",method="HEAD",status="404",source="none"} 0',
    'swarmirror_requests_total{door="peer",method="GET",status="503",source="none"} 0',
    'swarmirror_bytes_total{door="peer",source="local"} 0',
  ]) {
    assert.ok(lines.includes(line), line)
  }
})

test('combinations has each combination once, and none for a label with any value', () => {
  assert.deepEqual(combinations({ a: ['1', '2'], b: ['x', 'y'] }), [
    { a: '1', b: 'x' },
    { a: '1', b: 'y' },
    { a: '2', b: 'x' },
    { a: '2', b: 'y' },
  ])
  assert.deepEqual(combinations({ a: ['1'], b: [] }), [])
})

test('metrics of two mirrors are independent, and a name can be taken only once', async () => {
  const [one, other] = [createMetrics(), createMetrics()]
  one.counter('hedges_total', 'Hedges.').inc()
  other.counter('hedges_total', 'Hedges.')
  assert.match(one.render().body, /^swarmirror_hedges_total 1$/m)
  assert.match(other.render().body, /^swarmirror_hedges_total 0$/m)
  assert.throws(() => one.counter('hedges_total', 'Hedges.'))
})

test('gaugeFrom and counterFrom are read when they are rendered, and counters are not added up', async () => {
  let aside = 2
  const metrics = createMetrics()
  metrics.gaugeFrom('peers_aside', 'Aside.', () => aside)
  metrics.counterFrom('requests_total', 'Requests.', () => aside + 10)
  metrics.render()
  const { body } = metrics.render()
  assert.match(body, /^swarmirror_peers_aside 2$/m)
  assert.match(body, /^swarmirror_requests_total 12$/m)
  aside = 0
  assert.match(metrics.render().body, /^swarmirror_peers_aside 0$/m)
})

test('admin door: /metrics gives what was counted', async () => {
  const metrics = createMetrics()
  metrics.counter('transfer_resumes_total', 'Resumes.').inc(3)
  const response = await createAdminDoor({ readiness: new Readiness(), metrics }).request('/metrics')
  assert.equal(response.status, 200)
  assert.match(response.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/)
  assert.match(await response.text(), /^swarmirror_transfer_resumes_total 3$/m)
})
