import assert from 'node:assert/strict'
import { test } from 'node:test'
import { countRequests } from '../../../lib/http/count.ts'
import { createHttpMetrics } from '../../../lib/http/metrics.ts'
import { createMetrics } from '../../../lib/observe/metrics.ts'

test('countRequests counts what is answered, and not what a client has not waited for', async () => {
  const metrics = createMetrics()
  const leaving = new AbortController()
  const door = countRequests('peer', createHttpMetrics(metrics), ({ url }) => {
    if (url.endsWith('/left')) leaving.abort()
    return new Response(null, { status: 500 })
  })
  await door(new Request('http://mirror.example/left', { signal: leaving.signal }))
  assert.doesNotMatch((await metrics.render()).body, /status="500"/)
  await door(new Request('http://mirror.example/stayed'))
  assert.match((await metrics.render()).body, /^swarmirror_requests_total\{.*status="500",source="none"\} 1$/m)
})
