/** The content that the registry door tells the store to expect. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Digest } from '../../../lib/oci/digest.ts'
import { createPolicy } from '../../../lib/oci/policy.ts'
import { createMemoryStore } from '../../doubles/memory-store.ts'
import { type DoorSetup, type Doors, withDoors } from '../../fixtures/door.ts'
import { digestOf, makeImage } from '../../fixtures/image.ts'

const NAME = 'registry.example/team/app:1'
const image = makeImage({ layers: 1 })
const layer = image.contents.at(-1)?.descriptor ?? assert.fail()
const ABSENT = digestOf(new Uint8Array([1, 2, 3]))
const blob = (digest: Digest) => `/v2/team/app/blobs/${digest}?ns=registry.example`
const manifest = (reference: string) => `/v2/team/app/manifests/${reference}?ns=registry.example`

async function expectedBy(use: (ask: Doors['ask']) => Promise<void>, setup: DoorSetup = {}): Promise<Digest[]> {
  const expected: Digest[] = []
  const store = { ...createMemoryStore(), expect: (digest: Digest) => expected.push(digest) }
  await withDoors({ ...setup, store }, ({ ask }) => use(ask))
  return expected
}

test('registry door: content that containerd gets from a peer or from upstream is expected', async () => {
  const expected = await expectedBy(
    async (ask) => {
      assert.equal((await ask(manifest('1'))).status, 200)
      assert.equal((await ask(manifest(image.target.digest))).status, 200)
      const answer = await ask(blob(layer.digest))
      assert.equal((await answer.arrayBuffer()).byteLength, layer.size)
      assert.equal((await ask(blob(ABSENT))).status, 404)
      assert.equal((await ask(blob(digestOf(new Uint8Array())), { method: 'HEAD' })).status, 404)
    },
    { remote: [image, NAME] },
  )
  assert.deepEqual(expected, [image.target.digest, layer.digest, ABSENT])
})

test('registry door: no content is expected for images that are not mirrored, or that a tag might exclude', async () => {
  for (const policy of [
    createPolicy({ registries: new Set(['docker.io']) }),
    createPolicy({ exclude: [/:secret$/] }),
  ]) {
    const expected = await expectedBy(
      async (ask) => {
        assert.equal((await ask(blob(ABSENT))).status, 404)
      },
      { policy },
    )
    assert.deepEqual(expected, [])
  }
})
