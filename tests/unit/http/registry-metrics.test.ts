/** The metrics of the registry door for each registry. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { boundedNames } from '../../../lib/http/metrics.ts'
import { withDoors } from '../../fixtures/door.ts'
import { exchange, requestText } from '../../fixtures/http.ts'
import { makeImage } from '../../fixtures/image.ts'
import { waitFor } from '../../fixtures/wait.ts'

const image = makeImage({ layers: 1, layerSize: 5_000 })
const layer = image.contents.at(-1)?.descriptor ?? assert.fail('no layer')

test('registry door counts its bytes by the registry of the request, and none for HEAD or a miss', async () => {
  await withDoors({ local: [image, 'registry.example/team/app:1'] }, async ({ listen, metrics }) => {
    const { port } = await listen()
    const ask = (method: string, digest: string, registry: string) =>
      exchange(port, requestText(method, `/v2/team/app/blobs/${digest}?ns=${registry}`, { Host: `127.0.0.1:${port}` }))
    await ask('GET', layer.digest, 'registry.example')
    await ask('GET', layer.digest, 'registry.example')
    await ask('GET', layer.digest, 'other.example')
    await ask('HEAD', layer.digest, 'head.example')
    await ask('GET', `sha256:${'0'.repeat(64)}`, 'missing.example')
    const counted = async () =>
      [
        ...(await metrics()).matchAll(/^swarmirror_registry_bytes_total\{registry="([^"]+)",source="local"\} (\d+)$/gm),
      ].map(([, registry, bytes]) => [registry, Number(bytes)])
    const wanted = [
      ['registry.example', 2 * layer.size],
      ['other.example', layer.size],
    ]
    await waitFor('all bytes are counted', async () => JSON.stringify(await counted()) === JSON.stringify(wanted))
  })
})

test('boundedNames keeps the first names, and calls later ones `other`', () => {
  const name = boundedNames(2)
  assert.deepEqual(['a', 'b', 'a', 'c', 'b', 'd'].map(name), ['a', 'b', 'a', 'other', 'b', 'other'])
})
