/** Log lines that clients can cause: their length is bounded, and so is their number. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PeerClient } from '../../lib/peers/client.ts'
import { createCredentials } from '../../lib/peers/credentials.ts'
import { createTlsIdentity } from '../../lib/peers/tls.ts'
import { exchange, requestText, withRawClient } from '../fixtures/http.ts'
import { makeImage } from '../fixtures/image.ts'
import { never } from '../fixtures/layout.ts'
import { withMirrors } from '../fixtures/mirror.ts'
import { HELD_NAME, layerPath, portOf } from '../fixtures/mirrors.ts'
import { waitFor } from '../fixtures/wait.ts'

const image = makeImage({ layers: 1, layerSize: 1_000 })
const KEY = new Uint8Array(32).fill(43)
const FLAGS = ['--swarm-key', Buffer.from(KEY).toString('hex')]
/** Requests of a flood, and of a control, all of whose lines must be there. */
const FLOOD = 600
const CONTROL = 10
/** Lines of one event that may come at once, and more for each second of a busy machine. */
const MOST_LINES = 200 + 90
const LONGEST_LINE = 6_000

test('a client that pulls the same again and again writes a bounded number of lines, and a few pulls write all of theirs', () =>
  withMirrors(async (start) => {
    const holder = await start({ images: [{ image, names: [HELD_NAME] }], flags: FLAGS })
    const asker = await start({ bootstrap: [holder], flags: FLAGS })
    const pulled = () => asker.lines.filter((line) => line.includes('"event":"transfer"')).length
    const pull = async () => {
      const response = await asker.get(layerPath(image))
      await response.arrayBuffer()
      return response.status === 200
    }
    await waitFor('the layer is found', pull)
    const before = pulled()
    for (let count = 0; count < CONTROL; count++) assert.ok(await pull())
    await waitFor('a line for each', () => pulled() === before + CONTROL)
    for (let count = 0; count < FLOOD; count++) assert.ok(await pull())
    assert.ok(pulled() <= MOST_LINES, `${pulled()} lines`)
    assert.ok(asker.lines.every((line) => line.length < LONGEST_LINE))
  }))

test('clients that send nonsense to the doors write nothing, or little', () =>
  withMirrors(async (start) => {
    const mirror = await start({ images: [{ image, names: [HELD_NAME] }], flags: [...FLAGS, '--log-level', 'debug'] })
    const before = mirror.lines.length
    const long = 'x'.repeat(10_000)
    const registry = portOf(mirror.registry)
    for (let count = 0; count < 100; count++) {
      for (const text of [
        requestText('GET', '/', { Host: 'x.1' }),
        requestText('GET', `/v2/${long}/manifests/1?ns=${long}`),
        requestText('GET', `/v2/a/blobs/sha256:${'0'.repeat(64)}?ns=${long}`),
        requestText('GET', '/v2/', { Origin: `http://${long}` }),
      ])
        assert.ok((await exchange(registry, text)).status >= 400)
      // Noise; at the peer door it comes where TLS is expected.
      for (const port of [registry, portOf(mirror.peer)])
        await withRawClient(port, async (client) => client.send(Buffer.alloc(3_000, count)))
    }
    const client = new PeerClient({ tls: createTlsIdentity([KEY]), headTimeout: 10_000 })
    try {
      // A member's own capability, for other content than it asks for.
      const { headers } = createCredentials([KEY]).ticket('other' as never, 'GET', mirror.peer)
      for (let count = 0; count < 100; count++) {
        const peer = { host: '127.0.0.1', port: portOf(mirror.peer) }
        const call = { method: 'GET', path: layerPath(image), headers } as const
        // The door refuses a surplus connection from this address within a second.
        const reply = await waitFor('an answer', () => client.call(peer, call, never).catch(() => undefined))
        assert.equal(reply.status, 403)
        await reply.body.cancel()
      }
    } finally {
      client.close()
    }
    const written = mirror.lines.slice(before)
    assert.ok(written.length <= MOST_LINES, `${written.length} lines`)
    assert.ok(written.every((line) => line.length < LONGEST_LINE))
  }))
