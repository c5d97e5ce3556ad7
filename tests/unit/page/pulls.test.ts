import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  DOCKER_MANIFEST,
  DOCKER_MANIFEST_LIST,
  OCI_CONFIG,
  OCI_INDEX,
  OCI_LAYER,
  OCI_MANIFEST,
  OCTET_STREAM,
} from '../../../lib/oci/media-type.ts'
import { roleOf } from '../../../lib/page/client/pulls.ts'
import { nodeNames } from '../../../lib/page/client/swarm.ts'
import type { Status } from '../../../lib/page/status.ts'

test('roleOf names parts with the usual words', () => {
  const part = { startedAt: 0, transfers: [] }
  const key = `sha256:${'a'.repeat(64)}`
  assert.equal(roleOf({ ...part, key: 'docker.io/library/nginx:1', kind: 'manifest', mediaType: OCI_INDEX }), 'tag')
  for (const [kind, mediaType, role] of [
    ['manifest', OCI_INDEX, 'index'],
    ['manifest', DOCKER_MANIFEST_LIST, 'index'],
    ['manifest', OCI_MANIFEST, 'manifest'],
    ['manifest', DOCKER_MANIFEST, 'manifest'],
    ['blob', OCI_CONFIG, 'config'],
    ['blob', 'application/vnd.docker.container.image.v1+json', 'config'],
    ['blob', `${OCI_LAYER}+zstd`, 'layer'],
    ['blob', 'application/vnd.docker.image.rootfs.diff.tar.gzip', 'layer'],
    ['blob', OCTET_STREAM, 'blob'],
  ] as const)
    assert.equal(roleOf({ ...part, key, kind, mediaType }), role)
  assert.equal(roleOf({ ...part, key, kind: 'manifest' }), 'manifest')
  assert.equal(roleOf({ ...part, key, kind: 'blob' }), 'blob')
})

test('nodeNames knows no name for a text that is no address, whatever a member claims', () => {
  const told = { name: 'worker-2', version: '1', runtime: 'bun', held: 0, transfers: 0, startedAt: 0 }
  const nodes = [{ address: '10.0.0.2:5001', isMute: false, told }]
  const names = nodeNames({
    swarm: { size: 2, connected: 0, aside: 0, versions: [], nodes, more: 0 },
  } as unknown as Status)
  const shown = ['10.0.0.2:5001', '10.0.0.3:5001', 'constructor', 'toString', '__proto__'].map((text) => names[text])
  assert.deepEqual(shown, ['worker-2', undefined, undefined, undefined, undefined])
})
