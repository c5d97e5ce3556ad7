import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createUploadRate } from '../../../lib/http/upload-rate.ts'
import { createPolicy } from '../../../lib/oci/policy.ts'
import { PeerClient } from '../../../lib/peers/client.ts'
import {
  CAPABILITY_HEADER,
  CAPABILITY_LIFETIME,
  CLOCK_SKEW,
  createCredentials,
} from '../../../lib/peers/credentials.ts'
import type { ContentStore } from '../../../lib/store/store.ts'
import { CREDENTIALS, DOOR, SWARM_KEY, ticketFor } from '../../fixtures/credentials.ts'
import { exchange, RawClient, type RawResponse, requestText } from '../../fixtures/http.ts'
import { digestOf, makeImage } from '../../fixtures/image.ts'
import { never } from '../../fixtures/layout.ts'
import { allowed, withPeerDoor } from '../../fixtures/peer-door.ts'
import { waitFor } from '../../fixtures/wait.ts'

/** More than the socket buffers of both sides hold, so that a client that does not read keeps a transfer running. */
const LARGE = 24 * 1024 * 1024
const image = makeImage({ layers: 1, layerSize: 100_000 })
const large = makeImage({ layers: 1, layerSize: LARGE })

const layerOf = ({ contents }: typeof image) => contents.at(-1)?.descriptor ?? assert.fail('no layer')
const blobOf = (one: typeof image) => `/v2/library/demo/blobs/${layerOf(one).digest}?ns=docker.io`
const LAYER = layerOf(image)
const BLOB = blobOf(image)
const LARGE_BLOB = blobOf(large)
const UNKNOWN = `/v2/library/demo/blobs/${digestOf(Buffer.from('nobody has this'))}?ns=docker.io`
const TAG = '/v2/library/demo/manifests/1?ns=docker.io'
const MANIFEST = `/v2/library/demo/manifests/${image.target.digest}?ns=docker.io`

/** A store that records the questions. */
function watched(asked: string[]): (store: ContentStore) => ContentStore {
  return (store) =>
    new Proxy(store, {
      get(target, name) {
        if (name === 'describe' || name === 'open' || name === 'resolve') asked.push(name)
        const value: unknown = Reflect.get(target, name, target)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
}

/** An answer without the parts that differ each time. */
function lasting({ status, headers, body }: RawResponse): unknown {
  const { date, connection, 'keep-alive': keepAlive, ...rest } = headers
  return { status, headers: rest, body: body.toString('latin1') }
}

const token = (path: string, method = 'GET', credentials = CREDENTIALS, door = DOOR) => ({
  ...ticketFor(path, method, credentials, door)?.headers,
})
const long = CAPABILITY_LIFETIME + CLOCK_SKEW + 60_000
const expired = createCredentials([SWARM_KEY], { now: () => Date.now() - long })
const early = createCredentials([SWARM_KEY], { now: () => Date.now() + long })
const stranger = createCredentials([new Uint8Array(32).fill(8)])

test('peer door gives strangers always the same answer, whatever they ask for', async () => {
  const asked: string[] = []
  await withPeerDoor({ image, wrap: watched(asked) }, async ({ port }) => {
    const refusals: [string, string, string, Record<string, string>][] = []
    for (const path of [BLOB, UNKNOWN, TAG, MANIFEST]) {
      refusals.push(['no capability', 'GET', path, {}])
      refusals.push(['garbage', 'GET', path, { [CAPABILITY_HEADER]: 'x'.repeat(76) }])
      refusals.push(['wrong swarm key', 'GET', path, token(path, 'GET', stranger)])
      refusals.push(['expired', 'GET', path, token(path, 'GET', expired)])
      refusals.push(['from the future', 'GET', path, token(path, 'GET', early)])
      refusals.push(['another door', 'GET', path, token(path, 'GET', CREDENTIALS, '192.0.2.2:5001')])
      refusals.push(['another method', 'GET', path, token(path, 'HEAD')])
      refusals.push(['another key', 'GET', path, token(path === BLOB ? UNKNOWN : BLOB)])
      refusals.push(['a range', 'GET', path, { Range: 'bytes=0-0' }])
    }
    for (const path of ['/v2/', '/v2', '/', '/v2/_catalog', '/v2/library/demo/tags/list', '/v2/a/blobs/sha256:zz']) {
      refusals.push(['no content', 'GET', path, token(BLOB)])
    }
    for (const method of ['POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
      refusals.push(['not a read', method, BLOB, { ...token(BLOB), 'Content-Length': '0' }])
    }
    let first: unknown
    for (const [what, method, path, headers] of refusals) {
      const answer = lasting(await exchange(port, requestText(method, path, headers)))
      first ??= answer
      assert.deepEqual(answer, first, `${what}: ${method} ${path}`)
    }
    assert.deepEqual((first as RawResponse).status, 403)
    const head = await exchange(port, requestText('HEAD', BLOB, token(BLOB)))
    assert.equal(head.status, 403)
    assert.deepEqual(asked, [])
  })
})

test('peer door refuses a capability after its time, even if it has accepted it before', async () => {
  let time = Date.now()
  const capabilities = createCredentials([SWARM_KEY], { now: () => time })
  await withPeerDoor({ image, dependencies: { capabilities } }, async ({ port }) => {
    const request = requestText('GET', BLOB, token(BLOB, 'GET', capabilities))
    for (const [later, expected] of [
      [0, 200],
      [CAPABILITY_LIFETIME + CLOCK_SKEW, 200],
      [1, 403],
      [24 * 3_600_000, 403],
    ] as const) {
      time += later
      assert.equal((await exchange(port, request)).status, expected, `${later} ms later`)
    }
  })
})

test('peer door does not ask the policy for strangers', async () => {
  const policy = createPolicy({ registries: new Set(['registry.example']), resolvesTags: false })
  await withPeerDoor({ image, dependencies: { policy } }, async ({ port }) => {
    for (const path of [BLOB, TAG]) {
      assert.equal((await exchange(port, requestText('GET', path))).status, 403)
      assert.equal((await exchange(port, requestText('GET', path, allowed(path)))).status, 404)
    }
  })
})

test('peer door proves every answer to a member', async () => {
  const broken = (store: ContentStore): ContentStore =>
    new Proxy(store, {
      get(target, name) {
        if (name === 'resolve') return async () => Promise.reject(new Error('the disk is gone'))
        const value: unknown = Reflect.get(target, name, target)
        return typeof value === 'function' ? value.bind(target) : value
      },
    })
  const check = async (port: number, path: string, method: string, extra: Record<string, string>, status: number) => {
    const ticket = ticketFor(path, method) ?? assert.fail('no ticket')
    const answer = await exchange(port, requestText(method, path, { ...ticket.headers, ...extra }))
    assert.equal(answer.status, status, `${method} ${path}`)
    const headers = new Headers({ ...answer.headers })
    assert.ok(ticket.proves(status, headers), `${method} ${path} ${status} is not proven`)
    assert.ok(!ticket.proves(status === 200 ? 404 : 200, headers))
  }
  await withPeerDoor({ image }, async ({ port }) => {
    await check(port, BLOB, 'GET', {}, 200)
    await check(port, BLOB, 'HEAD', {}, 200)
    await check(port, BLOB, 'GET', { Range: 'bytes=10-19' }, 206)
    await check(port, BLOB, 'GET', { Range: `bytes=${LAYER.size}-` }, 416)
    await check(port, TAG, 'GET', {}, 200)
    await check(port, TAG, 'HEAD', {}, 200)
    await check(port, UNKNOWN, 'GET', {}, 404)
    await check(port, UNKNOWN, 'HEAD', {}, 404)
    await check(port, BLOB, 'GET', { 'If-None-Match': `"${LAYER.digest}"` }, 304)
  })
  await withPeerDoor({ image, wrap: broken }, async ({ port }) => {
    await check(port, TAG, 'GET', {}, 500)
  })
})

test('peer door takes members of both keys of a rotation', async () => {
  const next = new Uint8Array(32).fill(9)
  const capabilities = createCredentials([next, SWARM_KEY])
  await withPeerDoor({ image, dependencies: { capabilities } }, async ({ port }) => {
    for (const credentials of [CREDENTIALS, createCredentials([next]), capabilities]) {
      const ticket = ticketFor(BLOB, 'GET', credentials) ?? assert.fail('no ticket')
      const answer = await exchange(port, requestText('GET', BLOB, ticket.headers))
      assert.equal(answer.status, 200)
      assert.ok(ticket.proves(200, new Headers({ ...answer.headers })))
    }
  })
})

/** A client that asks for the large blob and does not read the answer. */
async function occupy(port: number): Promise<RawClient> {
  const client = await RawClient.connect(port)
  client.socket.pause()
  client.send(requestText('GET', LARGE_BLOB, allowed(LARGE_BLOB)))
  return client
}

test('peer door refuses a surplus transfer at once, with a proof, and accepts it when another one is over', async () => {
  await withPeerDoor({ image: large, maxTransfers: 2 }, async ({ port }) => {
    const ask = async () => {
      const ticket = ticketFor(UNKNOWN) ?? assert.fail('no ticket')
      const answer = await exchange(port, requestText('GET', UNKNOWN, ticket.headers))
      assert.ok(ticket.proves(answer.status, new Headers({ ...answer.headers })))
      return answer
    }
    assert.equal((await ask()).status, 404)
    const clients = [await occupy(port), await occupy(port)]
    const refused = await waitFor('a refusal', async () => {
      const answer = await ask()
      return answer.status === 503 && answer
    })
    assert.equal(refused.headers['retry-after'], '1')
    // However many strangers ask, they take no place, and do not learn that all are taken.
    for (let count = 0; count < 20; count++) {
      assert.equal((await exchange(port, requestText('GET', UNKNOWN))).status, 403)
    }
    assert.equal((await ask()).status, 503)
    // One client reads its answer to the end, and the other one leaves.
    clients[0]?.socket.resume()
    await waitFor('a place', async () => (await ask()).status === 404)
    const answer = (await clients[0]?.response()) ?? assert.fail('no client')
    assert.equal(answer.body.length, layerOf(large).size)
    clients[0]?.close()
    clients[1]?.close()
    await waitFor('both places', async () => {
      const third = await occupy(port)
      const { status } = await ask()
      third.close()
      return status === 404
    })
  })
})

test('peer door gives a place back after every way in which an answer ends', async () => {
  await withPeerDoor({ image, maxTransfers: 1 }, async ({ port }) => {
    for (let round = 0; round < 5; round++) {
      for (const [path, method, status] of [
        [BLOB, 'GET', 200],
        [BLOB, 'HEAD', 200],
        [UNKNOWN, 'GET', 404],
        [TAG, 'GET', 200],
      ] as const) {
        await waitFor('a place', async () => {
          const answer = await exchange(port, requestText(method, path, allowed(path, method)))
          return answer.status === 503 ? undefined : assert.equal(answer.status, status) === undefined
        })
      }
    }
  })
})

test('peer door counts bytes, refusals and running requests', async () => {
  await withPeerDoor({ image: large, maxTransfers: 1 }, async ({ port, running, metrics }) => {
    await exchange(port, requestText('GET', UNKNOWN))
    await exchange(port, requestText('GET', UNKNOWN, allowed(UNKNOWN)))
    const holder = await occupy(port)
    await waitFor('a refusal', async () => {
      return (await exchange(port, requestText('GET', UNKNOWN, allowed(UNKNOWN)))).status === 503
    })
    const given = /^swarmirror_requests_total\{door="peer",method="GET",status="200",source="local"\} 1$/m
    await waitFor('the head of the answer', async () => given.test(await metrics()))
    assert.equal(running(), 1)
    // Bytes count once the system has taken a whole chunk.
    holder.socket.on('data', () => {
      if (holder.received.length > 2 ** 19) holder.socket.pause()
    })
    holder.socket.resume()
    await waitFor('two chunks', () => holder.received.length > 2 ** 19)
    holder.close()
    await waitFor('nothing runs', () => running() === 0)
    const text = await metrics()
    assert.match(text, /^swarmirror_peer_door_refused_total\{reason="capability"\} 1$/m)
    assert.match(text, /^swarmirror_peer_door_refused_total\{reason="busy"\} [1-9]/m)
    assert.match(text, /^swarmirror_requests_total\{door="peer",method="GET",status="404",source="none"\} [1-9]/m)
    const sent = await waitFor('what was sent to be counted', async () => {
      const found = /^swarmirror_bytes_total\{door="peer",source="local"\} ([1-9]\d*)$/m.exec(await metrics())
      return found !== null && Number(found[1])
    })
    assert.ok(sent < layerOf(large).size, `${sent} bytes`)
  })
})

test('peer door keeps to the upload rate for all peers together, and sends every byte', async () => {
  const uploadRate = createUploadRate(400_000)
  await withPeerDoor({ image, dependencies: { uploadRate } }, async ({ port }) => {
    const client = new PeerClient()
    const start = performance.now()
    const call = async () => {
      const ticket = ticketFor(BLOB) ?? assert.fail('no ticket')
      const peer = { id: '', host: '127.0.0.1', port }
      const { status, headers, body } = await client.call(peer, { method: 'GET', path: BLOB, ...ticket }, never)
      assert.equal(headers.get('content-length'), String(LAYER.size))
      assert.ok(ticket.proves(status, headers))
      const chunks: Uint8Array[] = []
      for (let chunk = await body.next(); chunk !== undefined; chunk = await body.next())
        chunks.push(new Uint8Array(chunk))
      assert.equal(digestOf(Buffer.concat(chunks)), LAYER.digest)
    }
    await Promise.all([call(), call(), call()])
    const seconds = (performance.now() - start) / 1_000
    client.close()
    // 300 kB at 400 kB/s, minus the burst.
    assert.ok(seconds > 0.69, `${seconds} s`)
  })
})
