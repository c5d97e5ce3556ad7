import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { parseResponse, RawClient, requestText } from '../fixtures/http.ts'
import { makeImage } from '../fixtures/image.ts'
import { type TestMirror, withMirrors } from '../fixtures/mirror.ts'
import { waitFor } from '../fixtures/wait.ts'

const NAME = 'registry.example/team/app:1'
const LAYER_SIZE = 48 * 1024 * 1024

/** Milliseconds for which a mirror remembers the results of a lookup. Withdrawn content is gone after that. */
const MEMORY = 2_000

const image = makeImage({ layers: 1, layerSize: LAYER_SIZE })
const layer = image.contents.at(-1) ?? assert.fail('no layer')
const BLOB = `/v2/team/app/blobs/${layer.descriptor.digest}?ns=registry.example`

const portOf = (address: string): number => Number(address.slice(address.lastIndexOf(':') + 1))
const events = ({ lines }: TestMirror): string[] =>
  lines.filter((line) => line.startsWith('{')).map((line) => (JSON.parse(line) as { event: string }).event)

async function adminStatus(mirror: TestMirror, path: string): Promise<[number, string]> {
  const response = await fetch(`http://${mirror.admin}${path}`)
  return [response.status, await response.text()]
}

/** Begins to download the layer and stops reading. */
async function startSlowDownload(mirror: TestMirror): Promise<RawClient> {
  const client = await RawClient.connect(portOf(mirror.registry))
  client.send(requestText('GET', BLOB))
  await waitFor('the body begins', () => (parseResponse(client.received)?.body.length ?? 0) > 0)
  client.socket.pause()
  return client
}

test('mirror: SIGTERM lets a running transfer finish, is not ready meanwhile, and exits 0', async () => {
  await withMirrors(async (start) => {
    const mirror = await start({ images: [{ image, names: [NAME] }] })
    assert.deepEqual(await adminStatus(mirror, '/readyz'), [200, 'ready\n'])
    const client = await startSlowDownload(mirror)
    const ended = mirror.end()
    await waitFor('it is not ready', async () => (await adminStatus(mirror, '/readyz'))[0] === 503)
    assert.deepEqual(await adminStatus(mirror, '/readyz'), [503, 'not ready: stopping\n'])
    assert.deepEqual(await adminStatus(mirror, '/livez'), [200, 'alive\n'])
    await waitFor('it takes no more', () =>
      RawClient.connect(portOf(mirror.registry)).then(
        (late) => late.close(),
        () => true,
      ),
    )
    client.socket.resume()
    const { body } = await client.response()
    assert.ok(body.equals(layer.bytes))
    assert.equal(await ended, 0)
    assert.deepEqual(events(mirror).slice(-3), ['stopping', 'drained', 'stopped'])
    client.close()
  })
})

test('mirror: SIGTERM withdraws what was announced, so that others miss at once instead of asking in vain', async () => {
  const small = makeImage()
  await withMirrors(async (start) => {
    const a = await start({ images: [{ image: small, names: [NAME] }] })
    const b = await start({ bootstrap: [a] })
    const c = await start({ bootstrap: [a, b] })
    const path = '/v2/team/app/manifests/1?ns=registry.example'
    for (const mirror of [b, c]) {
      await waitFor('the tag is found', async () => (await mirror.get(path, { method: 'HEAD' })).status === 200)
    }
    assert.equal(await a.end(), 0)
    await delay(MEMORY)
    for (const mirror of [b, c]) {
      const asked = mirror.lines.length
      assert.equal((await mirror.get(path, { method: 'HEAD' })).status, 404)
      assert.ok(!mirror.lines.slice(asked).some((line) => line.includes('peer failed')))
    }
  })
})
