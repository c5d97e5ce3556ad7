import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withDoors } from '../../fixtures/door.ts'
import { makeImage } from '../../fixtures/image.ts'
import { NAME } from '../../fixtures/layout.ts'

const image = makeImage({ layers: 1 })

const PATHS = [
  '/v2/library/demo/manifests/1?ns=docker.io',
  `/v2/library/demo/manifests/${image.target.digest}?ns=docker.io`,
  `/v2/library/demo/blobs/${image.contents.at(-1)?.descriptor.digest}?ns=docker.io`,
]

test('peer door serves content of this node, as local', async () => {
  await withDoors({ local: [image, NAME] }, async ({ askAsPeer }) => {
    for (const path of PATHS) {
      const response = await askAsPeer(path)
      assert.equal(response.status, 200)
      assert.equal(response.headers.get('x-swarmirror-source'), 'local')
      await response.body?.cancel()
    }
  })
})

test('peer door never asks other peers, although the registry door of the same node does', async () => {
  await withDoors({ remote: [image, NAME] }, async ({ ask, askAsPeer }) => {
    for (const path of PATHS) {
      for (const method of ['GET', 'HEAD']) {
        assert.equal((await askAsPeer(path, { method })).status, 404)
        const response = await ask(path, { method })
        assert.equal(response.headers.get('x-swarmirror-source'), 'peer')
        await response.body?.cancel()
      }
    }
  })
})
