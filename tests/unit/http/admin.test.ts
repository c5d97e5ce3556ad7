import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createAdminDoor } from '../../../lib/http/admin.ts'
import { createMetrics } from '../../../lib/observe/metrics.ts'

async function ask(reasons: readonly string[], path: string, notes: readonly string[] = []): Promise<[number, string]> {
  const response = await createAdminDoor({ readiness: { reasons, notes }, metrics: createMetrics() }).request(path)
  return [response.status, await response.text()]
}

test('admin door: /livez answers even if the mirror is not ready', async () => {
  assert.deepEqual(await ask([], '/livez'), [200, 'alive\n'])
  assert.deepEqual(await ask(['stopping'], '/livez'), [200, 'alive\n'])
})

test('admin door: /readyz says whether the mirror is ready, with every reason why not', async () => {
  assert.deepEqual(await ask([], '/readyz'), [200, 'ready\n'])
  assert.deepEqual(await ask(['one thing', 'another'], '/readyz'), [503, 'not ready: one thing; another\n'])
  assert.deepEqual(await ask([], '/readyz', ['a thing']), [200, 'ready, but: a thing\n'])
  assert.deepEqual(await ask(['one thing'], '/readyz', ['a thing']), [503, 'not ready: one thing; a thing\n'])
})

test('admin door: without a page, everything else is a 404', async () => {
  assert.equal((await ask([], '/'))[0], 404)
  assert.equal((await ask([], '/v2/'))[0], 404)
})
