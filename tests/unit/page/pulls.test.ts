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
