import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { withDoors } from '../../fixtures/door.ts'
import { makeImage } from '../../fixtures/image.ts'

const NAME = 'registry.example/team/app:1'
const image = makeImage({ layers: 1 })
const [manifest, , layer] = image.contents.map(({ descriptor }) => descriptor)
assert.ok(manifest !== undefined && layer !== undefined)

const ETAGS = ['*', '"x"', 'x', '', ...[manifest, layer].flatMap(({ digest }) => [`"${digest}"`, `W/"${digest}"`])]
const RANGES = ['bytes=0-', 'bytes=5-9', `bytes=${layer.size}-`, 'bytes=-0', 'bytes=-7', 'bytes=9-5', 'lines=1-2']
const tags = fc.oneof(
  fc.constantFrom(...ETAGS),
  fc.tuple(fc.constantFrom(...ETAGS), fc.constantFrom(...ETAGS)).map(String),
)
const request = fc.record({
  method: fc.constantFrom('GET', 'HEAD'),
  path: fc.constantFrom(`manifests/${manifest.digest}`, 'manifests/1', `blobs/${layer.digest}`, 'manifests/2'),
  headers: fc.record(
    {
      'if-match': tags,
      'if-none-match': tags,
      'if-range': fc.constantFrom(...ETAGS),
      range: fc.constantFrom(...RANGES),
    },
    { requiredKeys: [] },
  ),
})

test('registry door gives a conditional request the same answer from this node and from a peer', async () => {
  await withDoors({ local: [image, NAME] }, async (local) => {
    await withDoors({ remote: [image, NAME] }, async (remote) => {
      await fc.assert(
        fc.asyncProperty(request, async ({ method, path, headers }) => {
          const [here, there] = await Promise.all(
            [local, remote].map(async ({ ask }) => {
              const answer = await ask(`/v2/team/app/${path}?ns=registry.example`, { method, headers })
              const { 'x-swarmirror-source': source, ...rest } = Object.fromEntries(answer.headers)
              return { status: answer.status, headers: rest, body: Buffer.from(await answer.arrayBuffer()) }
            }),
          )
          assert.deepEqual(there, here)
        }),
        { numRuns: 300 },
      )
    })
  })
})
