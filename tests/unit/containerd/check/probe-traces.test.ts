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

/** Removes a probe with one content from a containerd that fails that many times to list what is being written. */
async function remove(failures: number, certsDir: string) {
  const containerd = makeContainerd()
  containerd.putSilently(LEFT)
  await mkdir(join(certsDir, REGISTRY))
  let left = failures
  const client: ProbePlaces['client'] = {
    ...containerd.client,
    async ingests() {
      if (left-- > 0) throw new ContainerdError('unexpected', 'could not read startedat')
      return []
    },
    leases: async () => [],
    async deleteContent(digest) {
      containerd.unputSilently(digest)
      return true
    },
  }
  const cri = { removeImage: () => assert.fail('there is no image') } as unknown as ProbePlaces['cri']
  const content = [LEFT.descriptor.digest]
  await removeProbe({ client, cri, certsDir }, { registry: REGISTRY, content, ended: true }, never)
  assert.equal(await client.contentInfo(LEFT.descriptor.digest, never), undefined)
}

test('removeProbe looks again when containerd fails once to list what a pull has written', () =>
  withTemporaryDirectory(async (certsDir) => {
    await remove(1, certsDir)
    assert.deepEqual(await readdir(certsDir), [])
  }))

test('removeProbe fails when containerd fails again, and keeps the hosts.toml for the next start', () =>
  withTemporaryDirectory(async (certsDir) => {
    await assert.rejects(remove(2, certsDir), CODE)
    assert.deepEqual(await readdir(certsDir), [REGISTRY])
  }))
