import assert from 'node:assert/strict'
import type { RequestListener, ServerResponse } from 'node:http'
import { test } from 'node:test'
import { OCI_LAYER, OCI_MANIFEST } from '../../lib/oci/media-type.ts'
import { createMemoryStore } from '../../lib/store/memory.ts'
import type { Router } from '../../lib/swarm/router.ts'
import { PeerClient } from '../../lib/transfer/peer-client.ts'
import { createPeerContent } from '../../lib/transfer/peer-content.ts'
import { startAbsentPeer, startHttpPeer, startPeer, startRawPeer, type TestPeer } from '../fixtures/http-peer.ts'
import {
  BLOB,
  contentOf,
  HEAD,
  layer,
  MANIFEST,
  manifest,
  startGoodPeer,
  TIMES,
  withPeers,
} from '../fixtures/http-peers.ts'
import { digestOf } from '../fixtures/image.ts'
import { never } from '../fixtures/layout.ts'
import { createLogRecorder } from '../fixtures/log.ts'
import { waitFor, within } from '../fixtures/wait.ts'

/** Answers with the whole layer, except for what is given. */
function answering(status: number, headers: Record<string, string | undefined>, bytes = layer.bytes): RequestListener {
  return (incoming, outgoing) => {
    const all = Object.entries({ ...HEAD, ...headers }).filter((entry): entry is [string, string] => {
      return entry[1] !== undefined
    })
    outgoing.writeHead(status, Object.fromEntries(all))
    outgoing.end(incoming.method === 'HEAD' ? undefined : bytes)
  }
}

test('fetch gives the whole content of the first peer, with its descriptor', async () => {
  await withPeers([startGoodPeer], async ({ peers, lines }) => {
    const answer = await peers.fetch({ target: BLOB, method: 'GET' }, never)
    assert.ok(answer?.kind === 'content')
    assert.deepEqual(answer.descriptor, layer.descriptor)
    assert.equal(answer.range, undefined)
    assert.deepEqual(await contentOf(answer), Buffer.from(layer.bytes))
    assert.deepEqual(lines, [])
  })
})

test('fetch gives a manifest by tag and by digest', async () => {
  await withPeers([startGoodPeer], async ({ peers }) => {
    for (const reference of [MANIFEST.reference, { digest: manifest.descriptor.digest }]) {
      const answer = await peers.fetch({ target: { ...MANIFEST, reference }, method: 'GET' }, never)
      assert.ok(answer?.kind === 'content')
      assert.deepEqual(answer.descriptor, manifest.descriptor)
      assert.deepEqual(await contentOf(answer), Buffer.from(manifest.bytes))
    }
  })
})

test('fetch gives the descriptor alone for HEAD', async () => {
  await withPeers([startGoodPeer], async ({ peers }) => {
    const answer = await peers.fetch({ target: MANIFEST, method: 'HEAD' }, never)
    assert.deepEqual(answer, { kind: 'content', descriptor: manifest.descriptor, range: undefined, body: null })
  })
})

test('fetch gives the part that was asked for, open-ended and suffix too, and says what is unsatisfiable', async () => {
  await withPeers([startGoodPeer], async ({ peers }) => {
    const size = layer.bytes.length
    for (const [range, start, end] of [
      ['bytes=5-9', 5, 9],
      ['bytes=300000-', 300_000, size - 1],
      ['bytes=-7', size - 7, size - 1],
      ['bytes=10-999999999', 10, size - 1],
    ] satisfies [string, number, number][]) {
      const answer = await peers.fetch({ target: BLOB, method: 'GET', range }, never)
      assert.ok(answer?.kind === 'content')
      assert.deepEqual(answer.range, { start, end })
      assert.deepEqual(answer.descriptor, layer.descriptor)
      assert.deepEqual(await contentOf(answer), Buffer.from(layer.bytes.subarray(start, end + 1)))
    }
    const beyond = await peers.fetch({ target: BLOB, method: 'GET', range: `bytes=${size}-` }, never)
    assert.deepEqual(beyond, { kind: 'unsatisfiable', size })
    const several = await peers.fetch({ target: BLOB, method: 'GET', range: 'bytes=0-1,5-6' }, never)
    assert.deepEqual(await contentOf(several), Buffer.from(layer.bytes))
  })
})

const PART = layer.bytes.subarray(5, 10)
const PART_HEAD = { 'content-length': '5', 'content-range': `bytes 5-9/${layer.bytes.length}` }
const OTHER_DIGEST = digestOf(new Uint8Array([1, 2, 3]))

/** Every way in which a peer can fail before its body begins, and what the log says of it. */
const FAILURES: readonly [what: string, start: () => Promise<TestPeer>, problem: RegExp, range?: string][] = [
  ['refuses the connection', startAbsentPeer, /ECONNREFUSED|ConnectionRefused|refused/i],
  ['accepts and says nothing', () => startRawPeer((socket) => socket.resume()), /no answer within 300 ms/],
  ['closes at once', () => startRawPeer((socket) => socket.end()), /socket hang up|ECONNRESET|closed/],
  ['does not speak HTTP', () => startRawPeer((socket) => socket.end('SSH-2.0-x\r\n')), /.+/],
  ['answers 500', () => startHttpPeer(answering(500, {})), /status 500/],
  ['answers 302', () => startHttpPeer(answering(302, { location: 'http://127.0.0.1:9/' })), /status 302/],
  [
    'answers with another digest',
    () => startHttpPeer(answering(200, { 'docker-content-digest': OTHER_DIGEST })),
    /answered with sha256:\w+ for sha256:/,
  ],
  [
    'answers without a digest',
    () => startHttpPeer(answering(200, { 'docker-content-digest': undefined })),
    /invalid digest/,
  ],
  [
    'answers with the media type of a manifest',
    () => startHttpPeer(answering(200, { 'content-type': OCI_MANIFEST })),
    /media type/,
  ],
  [
    'answers without a length',
    () => startHttpPeer(answering(200, { 'content-length': undefined })),
    /no content length/,
  ],
  [
    'encodes the content',
    () => startHttpPeer(answering(200, { 'content-encoding': 'gzip' })),
    /content-encoded as gzip/,
  ],
  [
    'answers a part that nobody asked for',
    () => startHttpPeer(answering(206, PART_HEAD, PART)),
    /bytes 5-9 of \d+ instead of the whole/,
  ],
  [
    'answers another part than asked for',
    () => startHttpPeer(answering(206, PART_HEAD, PART)),
    /bytes 5-9 of \d+ instead of bytes=5-8/,
    'bytes=5-8',
  ],
  [
    'answers a part without a Content-Range',
    () => startHttpPeer(answering(206, { 'content-length': '5' }, PART)),
    /a part without the range/,
    'bytes=5-9',
  ],
  [
    'answers a part with a Content-Range that makes no sense',
    () => startHttpPeer(answering(206, { 'content-length': '5', 'content-range': 'bytes 9-5/3' }, PART)),
    /a part without the range/,
    'bytes=5-9',
  ],
  [
    'answers a part with a Content-Range without the size',
    () => startHttpPeer(answering(206, { 'content-length': '5', 'content-range': 'bytes 5-9/*' }, PART)),
    /a part without the range/,
    'bytes=5-9',
  ],
  [
    'answers a part of another length than its Content-Range',
    () => startHttpPeer(answering(206, { ...PART_HEAD, 'content-length': '4' }, PART.subarray(0, 4))),
    /a part without the range/,
    'bytes=5-9',
  ],
  [
    'answers the whole to a range',
    () => startHttpPeer(answering(200, {})),
    /the whole instead of the range/,
    'bytes=5-9',
  ],
  [
    'answers 416 to a range that exists',
    () => startHttpPeer(answering(416, { 'content-range': `bytes */${layer.bytes.length}` }, new Uint8Array())),
    /status 416/,
    'bytes=5-9',
  ],
  [
    'answers 416 to no range',
    () => startHttpPeer(answering(416, { 'content-range': 'bytes */0' }, new Uint8Array())),
    /status 416/,
  ],
]

for (const [what, startBadPeer, problem, range] of FAILURES) {
  test(`fetch asks the next peer when one ${what}, and logs why`, async () => {
    await withPeers([startBadPeer, startGoodPeer], async ({ peers, lines }) => {
      const answer = await within('an answer', peers.fetch({ target: BLOB, method: 'GET', range }, never))
      const expected = range === undefined ? layer.bytes : range === 'bytes=5-8' ? PART.subarray(0, 4) : PART
      assert.deepEqual(await contentOf(answer), Buffer.from(expected))
      assert.deepEqual(
        lines.map(({ level, event }) => [level, event]),
        [['warn', 'peer failed']],
      )
      assert.match(String(lines[0]?.fields.error), problem)
    })
  })
}

test('fetch asks the next peer when one answers 404, which is no failure', async () => {
  const startEmptyPeer = () => startPeer(createMemoryStore())
  await withPeers([startEmptyPeer, startGoodPeer], async ({ peers, lines }) => {
    assert.deepEqual(
      await contentOf(await peers.fetch({ target: BLOB, method: 'GET' }, never)),
      Buffer.from(layer.bytes),
    )
    assert.deepEqual(
      lines.map(({ level, event }) => [level, event]),
      [['debug', 'peer has it not']],
    )
  })
})

test('fetch asks for a manifest where a blob of the same digest would be the wrong media type', async () => {
  const wrong = () =>
    startHttpPeer((_, outgoing: ServerResponse) => {
      outgoing.writeHead(200, {
        'content-type': OCI_LAYER,
        'content-length': manifest.bytes.length,
        'docker-content-digest': manifest.descriptor.digest,
      })
      outgoing.end(manifest.bytes)
    })
  await withPeers([wrong, startGoodPeer], async ({ peers, lines }) => {
    const answer = await peers.fetch({ target: MANIFEST, method: 'GET' }, never)
    assert.ok(answer?.kind === 'content')
    assert.equal(answer.descriptor.mediaType, OCI_MANIFEST)
    await answer.body?.cancel()
    assert.match(String(lines[0]?.fields.error), /media type/)
  })
})

test('fetch gives up after as many peers as it may ask', async () => {
  let asked = 0
  const startBadPeer = () =>
    startHttpPeer((_, outgoing) => {
      asked++
      outgoing.writeHead(500, { 'content-length': '0' }).end()
    })
  const starts = [startBadPeer, startBadPeer, startGoodPeer]
  await withPeers(
    starts,
    async ({ peers }) => {
      assert.equal(await peers.fetch({ target: BLOB, method: 'GET' }, never), undefined)
      assert.equal(asked, 2)
    },
    { attempts: 2 },
  )
})

test('fetch gives nothing at once when nobody has it', async () => {
  await withPeers([], async ({ peers }) => {
    assert.equal(await within('a miss', peers.fetch({ target: BLOB, method: 'GET' }, never), 1_000), undefined)
  })
})

/** A router whose lookups never end by themselves. */
function slowRouter(heedsSignal: boolean, peers: readonly TestPeer[] = []): Router & { readonly ended: boolean } {
  let ended = false
  return {
    get ended() {
      return ended
    },
    ready: true,
    neighbours: 1,
    async *lookup(_, signal) {
      for (const { peer } of peers) yield peer
      await new Promise<void>((resolve) => {
        if (heedsSignal) signal.addEventListener('abort', () => resolve(), { once: true })
      })
      ended = true
    },
    advertise: () => undefined,
    withdraw: () => undefined,
    settled: async () => undefined,
    close: async () => undefined,
  }
}

for (const [what, heedsSignal] of [
  ['a router that is slow', true],
  ['a router that is slow and does not heed its signal', false],
] satisfies [string, boolean][]) {
  test(`fetch gives nothing after the lookup time with ${what}`, async () => {
    const client = new PeerClient(TIMES)
    const { log } = createLogRecorder()
    const peers = createPeerContent({ router: slowRouter(heedsSignal), client, log }, { lookupTimeout: 50 })
    const fetched = peers.fetch({ target: BLOB, method: 'GET' }, never)
    assert.equal(await within('a miss', fetched, 2_000), undefined)
    client.close()
  })
}

test('fetch does not wait for the rest of a lookup, and ends it', async () => {
  const peer = await startGoodPeer()
  const router = slowRouter(true, [peer])
  const client = new PeerClient(TIMES)
  const { log } = createLogRecorder()
  const peers = createPeerContent({ router, client, log }, { lookupTimeout: 60_000 })
  assert.deepEqual(await contentOf(await peers.fetch({ target: BLOB, method: 'GET' }, never)), Buffer.from(layer.bytes))
  await waitFor('the lookup has ended', () => router.ended)
  client.close()
  await peer.close()
})

test('fetch still asks a peer that was found in time when the one before took longer than the lookup', async () => {
  const starts = [() => startRawPeer((socket) => socket.resume()), startGoodPeer]
  await withPeers(
    starts,
    async ({ peers }) => {
      const answer = await peers.fetch({ target: BLOB, method: 'GET' }, never)
      assert.deepEqual(await contentOf(answer), Buffer.from(layer.bytes))
    },
    { lookupTimeout: 50 },
  )
})
