import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createAdminDoor } from '../../../lib/http/admin.ts'
import { combinations } from '../../../lib/observe/metric-labels.ts'
import { createMetrics } from '../../../lib/observe/metrics.ts'

test('createMetrics renders names, help and labels as Prometheus reads them', async () => {
  const metrics = createMetrics()
  metrics.requests.inc({ door: 'registry', method: 'GET', status: '200', source: 'peer' })
  metrics.lookupSeconds.observe({ found: 'true' }, 0.003)
  const { contentType, body } = await metrics.render()
  assert.match(contentType, /^text\/plain; version=0\.0\.4/)
  assert.match(body, /^swarmirror_requests_total\{door="registry",method="GET",status="200",source="peer"\} 1$/m)
  assert.match(body, /^swarmirror_lookup_seconds_bucket\{le="0\.005",found="true"\} 1$/m)
  // Every metric has its help, its type and the prefix; counters end with _total, times with _seconds.
  for (const [, name, type] of body.matchAll(/^# TYPE (\S+) (\S+)$/gm)) {
    assert.match(name ?? '', /^(?:swarmirror|process)_[a-z_]+$/)
    assert.match(body, new RegExp(`^# HELP ${name} [A-Z].*\\.$`, 'm'))
    assert.equal(type === 'counter', name?.endsWith('_total'), name)
    if (type === 'histogram') assert.match(name ?? '', /_seconds$/)
  }
})

test('createMetrics has every series that can be foreseen from the start, at 0', async () => {
  const metrics = createMetrics()
  const { body } = await metrics.render()
  const lines = body.split('\n')
  for (const { name, type, labels, values } of metrics.descriptions) {
    if (name.startsWith('process_') || name === 'swarmirror_build_info' || name === 'swarmirror_check_findings')
      continue
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

test('combinations has each once, and none of what may be anything', () => {
  assert.deepEqual(combinations({ a: ['1', '2'], b: ['x', 'y'] }), [
    { a: '1', b: 'x' },
    { a: '1', b: 'y' },
    { a: '2', b: 'x' },
    { a: '2', b: 'y' },
  ])
  assert.deepEqual(combinations({ a: ['1'], b: [] }), [])
})

test('createMetrics counts in a registry of its own', async () => {
  const [one, other] = [createMetrics(), createMetrics()]
  one.hedges.inc()
  assert.match((await one.render()).body, /^swarmirror_hedges_total 1$/m)
  assert.match((await other.render()).body, /^swarmirror_hedges_total 0$/m)
})

test('createMetrics looks at the peers that are put aside when it is asked', async () => {
  let aside = 2
  const metrics = createMetrics({ peersAside: () => aside })
  assert.match((await metrics.render()).body, /^swarmirror_peers_aside 2$/m)
  aside = 0
  assert.match((await metrics.render()).body, /^swarmirror_peers_aside 0$/m)
})

test('admin door: /metrics gives what was counted', async () => {
  const metrics = createMetrics()
  metrics.transferResumes.inc(3)
  const response = await createAdminDoor({ readiness: () => ({ ready: true }), metrics }).request('/metrics')
  assert.equal(response.status, 200)
  assert.match(response.headers.get('content-type') ?? '', /^text\/plain; version=0\.0\.4/)
  assert.match(await response.text(), /^swarmirror_transfer_resumes_total 3$/m)
})
