import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createHttpMetrics } from '../../../lib/http/metrics.ts'
import { createRegistryDoor } from '../../../lib/http/registry.ts'
import { silentLogger } from '../../../lib/observe/log.ts'
import { createMetrics } from '../../../lib/observe/metrics.ts'
import { createPolicy } from '../../../lib/oci/policy.ts'
import { byteSourceOf, NO_BODY } from '../../../lib/platform/byte-source.ts'
import { freeAdmission } from '../../doubles/admission.ts'
import { createMemoryStore } from '../../doubles/memory-store.ts'
import { bySwarm } from '../../fixtures/door.ts'

test('registry door ends a body before its first byte if the client should ask again', async () => {
  const door = createRegistryDoor({
    store: createMemoryStore(),
    peers: { fetch: async () => ({ kind: 'later', size: 4_096 }) },
    policy: createPolicy(),
    metrics: createHttpMetrics(createMetrics()),
    resolution: bySwarm,
    log: silentLogger,
  })
  const path = `/v2/team/app/blobs/sha256:${'a'.repeat(64)}?ns=registry.example`
  const response = await door.fetch(new Request(`http://127.0.0.1:5000${path}`), freeAdmission())
  assert.deepEqual([response.status, response.headers.get('content-length')], [200, '4096'])
  assert.equal(byteSourceOf(response), NO_BODY)
})
