import assert from 'node:assert/strict'
import { mkdir, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { type ProbePlaces, removeProbe } from '../../../../lib/containerd/check/probe-traces.ts'
import { ContainerdError } from '../../../../lib/containerd/client/error.ts'
import { makeContainerd } from '../../../doubles/containerd-double.ts'
import { contentOf, withTemporaryDirectory } from '../../../fixtures/image.ts'

const never = new AbortController().signal
const REGISTRY = 'probe-0123456789abcdef-9.swarmirror.invalid'
const LEFT = contentOf('application/octet-stream', new Uint8Array([1]))
const CODE = { name: 'ContainerdError', code: 'unexpected' }

/** Removes a probe of one content from a containerd that fails to list images, or does not. */
async function remove(fails: boolean, certsDir: string) {
  const containerd = makeContainerd()
  containerd.putSilently(LEFT)
  await mkdir(join(certsDir, REGISTRY))
  const client: ProbePlaces['client'] = {
    ...containerd.client,
    async images() {
      if (fails) throw new ContainerdError('unexpected', 'no answer')
      return []
    },
    async deleteContent(digest) {
      containerd.unputSilently(digest)
      return true
    },
  }
  const cri = { removeImage: () => assert.fail('there is no image') } as unknown as ProbePlaces['cri']
  await removeProbe({ client, cri, certsDir }, { registry: REGISTRY, content: [LEFT.descriptor.digest] }, never)
  assert.equal(await client.contentInfo(LEFT.descriptor.digest, never), undefined)
}

test('removeProbe removes the content and the hosts.toml', () =>
  withTemporaryDirectory(async (certsDir) => {
    await remove(false, certsDir)
    assert.deepEqual(await readdir(certsDir), [])
  }))

test('removeProbe fails with a containerd that fails, and keeps the hosts.toml for the next start', () =>
  withTemporaryDirectory(async (certsDir) => {
    await assert.rejects(remove(true, certsDir), CODE)
    assert.deepEqual(await readdir(certsDir), [REGISTRY])
  }))
