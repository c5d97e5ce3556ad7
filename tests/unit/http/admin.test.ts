import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createAdminDoor } from '../../../lib/http/admin.ts'
import { createMetrics } from '../../../lib/observe/metrics.ts'

async function ask(reasons: readonly string[], path: string): Promise<[number, string]> {
  const response = await createAdminDoor({ readiness: { reasons }, metrics: createMetrics() }).request(path)
  return [response.status, await response.text()]
}

test('admin door: /livez answers whether or not the node does its work', async () => {
  assert.deepEqual(await ask([], '/livez'), [200, 'alive\n'])
  assert.deepEqual(await ask(['stopping'], '/livez'), [200, 'alive\n'])
})

test('admin door: /readyz says whether the node does its work, and every reason why not', async () => {
  assert.deepEqual(await ask([], '/readyz'), [200, 'ready\n'])
  assert.deepEqual(await ask(['one thing', 'another'], '/readyz'), [503, 'not ready: one thing; another\n'])
})

test('admin door: there is nothing else without a page', async () => {
  assert.equal((await ask([], '/'))[0], 404)
  assert.equal((await ask([], '/v2/'))[0], 404)
})
