import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Hono } from 'hono'
import type { DoorEnv } from '../../../../lib/http/door.ts'
import { createHttpMetrics } from '../../../../lib/http/metrics.ts'
import { count } from '../../../../lib/http/middleware.ts'
import { createMetrics } from '../../../../lib/observe/metrics.ts'
import { contentOf } from '../../../../lib/oci/make-image.ts'
import { OCTET_STREAM } from '../../../../lib/oci/media-type.ts'
import { freeAdmission } from '../../../doubles/admission.ts'

test('count counts answers, but not those for which the client has not waited', async () => {
  const metrics = createMetrics()
  const leaving = new AbortController()
  const door = new Hono<DoorEnv>()
  door.use(count('peer', createHttpMetrics(metrics)))
  door.get('/:how', (c) => {
    if (c.req.param('how') === 'left') leaving.abort()
    return c.body(null, 500)
  })
  await door.request('/left', { signal: leaving.signal }, { admission: freeAdmission() })
  assert.doesNotMatch(metrics.render().body, /status="500"/)
  await door.request('/stayed', {}, { admission: freeAdmission() })
  assert.match(metrics.render().body, /^swarmirror_requests_total\{.*status="500",source="none"\} 1$/m)
})

test('count counts the bytes that were sent once an answer is over', async () => {
  const metrics = createMetrics()
  const { promise: ended, resolve } = Promise.withResolvers<number>()
  const door = new Hono<DoorEnv>()
  door.use(count('registry', createHttpMetrics(metrics)))
  door.get('/', (c) => {
    c.set('content', { source: 'peer', bytes: 7, descriptor: contentOf(OCTET_STREAM, new Uint8Array(7)).descriptor })
    return c.body(null, 200)
  })
  const counted = async () =>
    /^swarmirror_bytes_total\{door="registry",source="peer"\} (\d+)$/m.exec(metrics.render().body)?.[1]
  await door.request('/', {}, { admission: { ...freeAdmission(), ended } })
  assert.equal(await counted(), '0')
  resolve(5)
  await ended
  assert.equal(await counted(), '5')
})

test('count counts the bytes of GET only, and other methods only as `other`', async () => {
  const metrics = createMetrics()
  const door = new Hono<DoorEnv>()
  door.use(count('registry', createHttpMetrics(metrics)))
  door.all('*', (c) => {
    c.set('content', { source: 'peer', bytes: 7, descriptor: contentOf(OCTET_STREAM, new Uint8Array(7)).descriptor })
    return c.body(null, 206)
  })
  const admission = { ...freeAdmission(), ended: Promise.resolve(7) }
  for (const method of ['GET', 'GET', 'HEAD', 'POST']) await door.request('/', { method }, { admission })
  const { body } = metrics.render()
  assert.match(body, /^swarmirror_bytes_total\{door="registry",source="peer"\} 14$/m)
  for (const [method, times] of [
    ['GET', 2],
    ['HEAD', 1],
    ['other', 1],
  ]) {
    const labels = `door="registry",method="${method}",status="206",source="peer"`
    assert.ok(body.includes(`swarmirror_requests_total{${labels}} ${times}\n`), `${method}`)
  }
})
