import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createHttpMetrics } from '../../../lib/http/metrics.ts'
import { afterWork } from '../../../lib/mirror/metrics.ts'
import { createMetrics } from '../../../lib/observe/metrics.ts'

test('afterWork runs only if containerd has asked for something, or another node got content, since the last call', () => {
  const metrics = createHttpMetrics(createMetrics())
  let runs = 0
  const rest = afterWork(metrics, () => runs++)
  rest()
  assert.equal(runs, 0)
  metrics.requests.inc({ door: 'registry', method: 'GET', status: '404', source: 'none' })
  rest()
  assert.equal(runs, 1)
  rest()
  // Other nodes check the peer door when they start.
  metrics.requests.inc({ door: 'peer', method: 'GET', status: '200', source: 'none' })
  rest()
  assert.equal(runs, 1)
  metrics.requests.inc({ door: 'peer', method: 'GET', status: '206', source: 'local' })
  rest()
  assert.equal(runs, 2)
})
