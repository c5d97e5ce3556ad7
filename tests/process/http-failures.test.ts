import assert from 'node:assert/strict'
import { rm, truncate } from 'node:fs/promises'
import type { RequestListener, ServerResponse } from 'node:http'
import { test } from 'node:test'
import { OciError } from '../../lib/oci/error.ts'
import { PROOF_HEADER } from '../../lib/peers/credentials.ts'
import { FileSource } from '../../lib/platform/file-source.ts'
import type { ContentStore } from '../../lib/store/store.ts'
import type { CountingPeer } from '../doubles/http-peer.ts'
import { startMember } from '../doubles/http-peers.ts'
import { createMemoryStore } from '../doubles/memory-store.ts'
import { type Doors, withDoors } from '../fixtures/door.ts'
import { exchange, parseResponse, requestText, withRawClient } from '../fixtures/http.ts'
import { makeImage, writeLayout } from '../fixtures/image.ts'
import { blobPath, NAME, tagged, withLayoutStore } from '../fixtures/layout.ts'
import { waitFor, within } from '../fixtures/wait.ts'

const image = makeImage({ layers: 1, layerSize: 200_000 })
const layer = image.contents.at(-1) ?? assert.fail('no layer')
const BLOB = `/v2/library/demo/blobs/${layer.descriptor.digest}?ns=docker.io`
const TAG = '/v2/library/demo/manifests/1?ns=docker.io'

/** A store that holds the image, but one of its operations fails. */
function breaking(operation: 'resolve' | 'describe' | 'open'): ContentStore {
  const store = createMemoryStore()
  store.addImage(image, tagged(NAME))
  return {
    ...store,
    [operation]: async () => {
      throw new Error(`cannot ${operation}: the disk is gone`)
    },
  }
}

/** Runs `use` with the doors of a node without content, whose only peer answers with `answer`. */
async function withMember(
  answer: RequestListener,
  use: (doors: Doors, peer: CountingPeer) => Promise<void>,
): Promise<void> {
  const peer = await startMember(answer)
  try {
    await withDoors({ remote: [image, NAME], peer }, async (doors) => await use(doors, peer))
  } finally {
    await peer.close()
  }
}

for (const operation of ['resolve', 'describe', 'open'] as const) {
  test(`doors answer 500, without the cause, and log it when the store cannot ${operation}`, async () => {
    await withDoors({ store: breaking(operation), remote: [image, NAME] }, async ({ ask, askAsPeer, lines }) => {
      for (const [position, door] of [ask, askAsPeer].entries()) {
        const response = await door(operation === 'resolve' ? TAG : BLOB)
        assert.equal(response.status, 500)
        const body = (await response.json()) as { errors: { code: string; message: string }[] }
        assert.equal(body.errors[0]?.code, 'UNKNOWN')
        assert.doesNotMatch(JSON.stringify(body), /disk/)
        assert.equal(lines[position]?.level, 'error')
        assert.equal(lines[position]?.fields.door, position === 0 ? 'registry' : 'peer')
        assert.match(String(lines[position]?.fields.error), /the disk is gone/)
      }
      assert.equal(lines.length, 2)
    })
  })
}

test('doors answer 500, prove it, count it and log it when the file of content cannot be read', async () => {
  const store = createMemoryStore()
  store.addImage(image, tagged(NAME))
  const broken: ContentStore = {
    ...store,
    open: async () => new FileSource({ path: '/nowhere/blob', start: 0, length: layer.bytes.length }),
  }
  await withDoors({ store: broken }, async ({ ask, askAsPeer, lines, metrics }) => {
    const [own, asPeer] = [await ask(BLOB), await askAsPeer(BLOB)]
    assert.deepEqual([own.status, asPeer.status], [500, 500])
    assert.ok(asPeer.headers.has(PROOF_HEADER))
    const counted = (await metrics()).match(/^swarmirror_requests_total\{.*status="(?:200|500)".*\} [1-9]\d*$/gm)
    assert.deepEqual(
      counted,
      ['registry', 'peer'].map(
        (door) => `swarmirror_requests_total{door="${door}",method="GET",status="500",source="none"} 1`,
      ),
    )
    assert.deepEqual(
      lines.map(({ level, event, fields }) => [level, event, /ENOENT/.test(String(fields.error))]),
      Array(2).fill(['error', 'request failed', true]),
    )
  })
})

test('doors answer 500 and log it when the store throws an error of a kind meant for clients', async () => {
  const fail = async () => {
    throw new OciError('DIGEST_INVALID', 'the disk returns nonsense')
  }
  const store = createMemoryStore()
  store.addImage(image, tagged(NAME))
  for (const broken of [{ describe: fail }, { open: fail }]) {
    await withDoors({ store: { ...store, ...broken } }, async ({ ask, askAsPeer, lines }) => {
      for (const door of [ask, askAsPeer]) {
        const response = await door(BLOB)
        assert.equal(response.status, 500)
        assert.doesNotMatch(await response.text(), /nonsense|DIGEST_INVALID/)
      }
      assert.deepEqual(
        lines.map(({ level, event, fields }) => [level, event, /nonsense/.test(String(fields.error))]),
        [
          ['error', 'request failed', true],
          ['error', 'request failed', true],
        ],
      )
    })
  }
})

test('doors bound what requests that fail write to the log, in lines and in length', async () => {
  await withDoors({ store: breaking('describe') }, async ({ listen, lines }) => {
    const { port } = await listen()
    const path = `${BLOB}&padding=${'x'.repeat(10_000)}`
    await withRawClient(port, async (client) => {
      for (let round = 0; round < 300; round++) {
        client.send(requestText('GET', path))
        assert.equal((await client.response()).status, 500)
      }
    })
    // 20 lines at once and then one per second; the requests take less than a minute.
    assert.ok(lines.length >= 20 && lines.length < 80, `${lines.length} lines`)
    assert.ok(lines.every((line) => JSON.stringify(line).length < 2_000))
  })
})

test('doors do not warn about a client that left', async () => {
  const stop = new AbortController()
  const store = breaking('open')
  const open = async () => {
    stop.abort()
    throw new Error('aborted')
  }
  await withDoors({ store: { ...store, open } }, async ({ ask, lines }) => {
    await ask(BLOB, { signal: stop.signal })
    assert.deepEqual(
      lines.map(({ level, event }) => [level, event]),
      [['debug', 'client went away']],
    )
  })
})

test('registry door logs no error when its client leaves before there is an answer', async () => {
  const silent = () => undefined
  await withMember(silent, async ({ listen, lines }, peer) => {
    const { port } = await listen()
    await withRawClient(port, async (client) => {
      client.send(requestText('GET', BLOB))
      await waitFor('the peer is asked', () => peer.open === 1)
    })
    await waitFor('the connection to the peer is closed', () => peer.open === 0)
    await waitFor('the request is over', () => lines.length === 2)
    assert.deepEqual(
      lines.map(({ level, event, fields }) => [level, event, fields.outcome]),
      [
        ['info', 'transfer', 'cancelled'],
        ['debug', 'client went away', undefined],
      ],
    )
  })
})

test('doors fetch from a peer what vanishes between describe and open', async () => {
  const store = createMemoryStore()
  store.addImage(image, tagged(NAME))
  const gone: ContentStore = { ...store, open: async () => undefined }
  await withDoors({ store: gone, remote: [image, NAME] }, async ({ ask, askAsPeer }) => {
    const response = await ask(BLOB)
    assert.equal(response.headers.get('x-swarmirror-source'), 'peer')
    assert.deepEqual(Buffer.from(await response.arrayBuffer()), Buffer.from(layer.bytes))
    assert.equal((await askAsPeer(BLOB)).status, 404)
  })
})

test('doors do not serve a file of a layout that is gone or has become shorter', async () => {
  const prepare = (dir: string) => writeLayout(dir, [{ image, names: [NAME] }])
  await withLayoutStore(prepare, async (store, dir) => {
    await withDoors({ store }, async ({ listen }) => {
      const { port } = await listen()
      const get = requestText('GET', BLOB, { Connection: 'close' })
      assert.deepEqual((await exchange(port, get)).body, Buffer.from(layer.bytes))
      const path = blobPath(dir, layer.descriptor.digest)
      await truncate(path, 100)
      assert.equal((await exchange(port, get)).status, 404)
      await rm(path)
      assert.equal((await exchange(port, get)).status, 404)
    })
  })
})

for (const [what, next, cause] of [
  ['breaks off', (outgoing) => outgoing.destroy(), /.+/],
  ['goes silent', () => undefined, /no byte within 1000 ms/],
] satisfies [string, (outgoing: ServerResponse) => void, RegExp][]) {
  test(`registry door ends a body with FIN, and does end it, when a peer ${what} in the middle`, async () => {
    const answer: RequestListener = (_, outgoing) => {
      outgoing.writeHead(200, {
        'content-type': layer.descriptor.mediaType,
        'content-length': layer.bytes.length,
        'docker-content-digest': layer.descriptor.digest,
      })
      outgoing.write(layer.bytes.subarray(0, 120_000), () => next(outgoing))
    }
    await withMember(answer, async ({ listen, lines }) => {
      const { port } = await listen()
      await withRawClient(port, async (client) => {
        client.send(requestText('GET', BLOB))
        assert.equal(await within('the end', client.ended()), 'fin')
        const response = parseResponse(client.received) ?? assert.fail('no response')
        assert.equal(response.status, 200)
        assert.equal(response.headers['content-length'], String(layer.bytes.length))
        assert.deepEqual(response.body, Buffer.from(layer.bytes.subarray(0, response.body.length)))
        assert.ok(response.body.length <= 120_000)
      })
      await waitFor('the failure is logged', () => lines.some(({ event }) => event === 'answer ended early'))
      const line = lines.find(({ event }) => event === 'answer ended early')
      assert.equal(line?.level, 'info')
      const error = line?.fields.error as Error | undefined
      assert.match(error?.message ?? '', /the body broke off after \d+ of/)
      const left = error?.cause as Error | undefined
      assert.match(left?.message ?? '', /no peer left for the bytes from \d+ on/)
      const broke = lines.find(({ event }) => event === 'peer broke off')
      assert.match(String(broke?.fields.error), cause)
    })
  })
}

for (const [what, next] of [
  ['closes the connection', (outgoing) => outgoing.destroy()],
  ['gives nothing', () => undefined],
] satisfies [string, (outgoing: ServerResponse) => void][]) {
  test(`registry door answers 404 when the only peer sends a head and then ${what}, and logs no error of its own`, async () => {
    const answer: RequestListener = (_, outgoing) => {
      outgoing.writeHead(200, {
        'content-type': layer.descriptor.mediaType,
        'content-length': layer.bytes.length,
        'docker-content-digest': layer.descriptor.digest,
      })
      outgoing.flushHeaders()
      next(outgoing)
    }
    await withMember(answer, async ({ listen, lines }) => {
      const { port } = await listen()
      const { status, body } = await exchange(port, requestText('GET', BLOB, { Connection: 'close' }))
      assert.equal(status, 404)
      assert.match(body.toString(), /BLOB_UNKNOWN/)
      assert.ok(lines.every(({ level }) => level !== 'error'))
      assert.ok(lines.some(({ event, fields }) => event === 'transfer' && fields.outcome === 'failed'))
    })
  })
}

test('registry door stops fetching from a peer when its client leaves', async () => {
  const answer: RequestListener = (_, outgoing) => {
    outgoing.writeHead(200, {
      'content-type': layer.descriptor.mediaType,
      'content-length': layer.bytes.length,
      'docker-content-digest': layer.descriptor.digest,
    })
    outgoing.write(layer.bytes.subarray(0, 120_000))
  }
  await withMember(answer, async ({ listen, lines }, peer) => {
    const { port } = await listen()
    await withRawClient(port, async (client) => {
      client.send(requestText('GET', BLOB))
      await waitFor('the body begins', () => (parseResponse(client.received)?.body.length ?? 0) > 0)
      assert.equal(peer.open, 1)
    })
    await waitFor('the connection to the peer is closed', () => peer.open === 0)
    assert.deepEqual(
      lines.map(({ level, event, fields }) => [level, event, fields.outcome]),
      [['info', 'transfer', 'cancelled']],
    )
  })
})
