import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createAdminDoor } from '../../lib/http/admin.ts'
import { createMetrics } from '../../lib/observe/metrics.ts'

test('createMetrics renders names, help and labels as Prometheus reads them', async () => {
  const metrics = createMetrics()
  metrics.requests.inc({ door: 'registry', method: 'GET', status: 200, source: 'peer' })
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
