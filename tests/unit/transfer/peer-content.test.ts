import assert from 'node:assert/strict'
import type { RequestListener, ServerResponse } from 'node:http'
import { test } from 'node:test'
import { withoutFlight } from '../../../lib/flight/flight.ts'
import { OCI_LAYER, OCI_MANIFEST } from '../../../lib/oci/media-type.ts'
import { createCredentials } from '../../../lib/peers/credentials.ts'
import type { Router } from '../../../lib/swarm/router.ts'
import { createPeerContent, type PeerRequest } from '../../../lib/transfer/peer-content.ts'
import {
  type CountingPeer,
  startAbsentPeer,
  startHttpPeer,
  startPeer,
  startRawPeer,
  type TestPeer,
} from '../../doubles/http-peer.ts'
import {
  BLOB,
  contentOf,
  counted,
  HEAD,
  image,
  layer,
  MANIFEST,
  makeParts,
  manifest,
  OPTIONS,
  startGoodPeer,
  startMember,
  TAG,
  withPeers,
} from '../../doubles/http-peers.ts'
import { createMemoryStore } from '../../doubles/memory-store.ts'
import { digestOf } from '../../fixtures/image.ts'
import { never } from '../../fixtures/layout.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

/** Answers with the whole layer, with the given changes. */
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
  await withPeers([startGoodPeer], async ({ peers, lines }, [peer]) => {
    const answer = await peers.fetch({ target: BLOB, method: 'GET' }, never)
    assert.ok(answer?.kind === 'content')
    assert.deepEqual(answer.descriptor, layer.descriptor)
    assert.equal(answer.range, undefined)
    assert.deepEqual(await contentOf(answer), Buffer.from(layer.bytes))
    assert.deepEqual(
      lines.map(({ level, event, fields: { ms, ...fields } }) => [level, event, typeof ms, fields]),
      [
        [
          'info',
          'transfer',
          'number',
          {
            key: BLOB.digest,
            outcome: 'complete',
            source: [`127.0.0.1:${peer?.peer.port}`],
            bytes: layer.bytes.length,
            attempts: 1,
            resumes: 0,
          },
        ],
      ],
    )
  })
})

test('fetch gives a manifest by tag and by digest', async () => {
  await withPeers([startGoodPeer], async ({ peers }) => {
    for (const target of [MANIFEST, { ...BLOB, kind: 'manifest', digest: manifest.descriptor.digest } as const]) {
      const answer = await peers.fetch({ target, method: 'GET' }, never)
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
      ['bytes=240000-', 240_000, size - 1],
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

/** Every way in which a peer can fail before its body begins, and the text in the log. */
const FAILURES: readonly [what: string, start: () => Promise<TestPeer>, problem: RegExp, range?: string][] = [
  ['refuses the connection', startAbsentPeer, /ECONNREFUSED|ConnectionRefused|refused/i],
  ['closes at once', () => startRawPeer((socket) => socket.end()), /socket hang up|ECONNRESET|closed/],
  ['does not speak HTTP', () => startRawPeer((socket) => socket.end('SSH-2.0-x\r\n')), /.+/],
  ['answers 500', () => startMember(answering(500, {})), /status 500/],
  ['answers 302', () => startMember(answering(302, { location: 'http://127.0.0.1:9/' })), /status 302/],
  [
    'answers with another digest',
    () => startMember(answering(200, { 'docker-content-digest': OTHER_DIGEST })),
    /answered with sha256:\w+ for sha256:/,
  ],
  [
    'answers without a digest',
    () => startMember(answering(200, { 'docker-content-digest': undefined })),
    /invalid digest/,
  ],
  [
    'answers with the media type of a manifest',
    () => startMember(answering(200, { 'content-type': OCI_MANIFEST })),
    /media type/,
  ],
  [
    'answers without a length',
    () => startMember(answering(200, { 'content-length': undefined })),
    /a body without a length/,
  ],
  ['encodes the content', () => startMember(answering(200, { 'content-encoding': 'gzip' })), /content-encoded as gzip/],
  [
    'answers a part that nobody asked for',
    () => startMember(answering(206, PART_HEAD, PART)),
    /bytes 5-9 of \d+ instead of bytes=0-262143/,
  ],
  [
    'answers another part than asked for',
    () => startMember(answering(206, PART_HEAD, PART)),
    /bytes 5-9 of \d+ instead of bytes=5-8/,
    'bytes=5-8',
  ],
  [
    'answers a part without a Content-Range',
    () => startMember(answering(206, { 'content-length': '5' }, PART)),
    /a part without the range/,
    'bytes=5-9',
  ],
  [
    'answers a part with a Content-Range that makes no sense',
    () => startMember(answering(206, { 'content-length': '5', 'content-range': 'bytes 9-5/3' }, PART)),
    /a part without the range/,
    'bytes=5-9',
  ],
  [
    'answers a part with a Content-Range without the size',
    () => startMember(answering(206, { 'content-length': '5', 'content-range': 'bytes 5-9/*' }, PART)),
    /a part without the range/,
    'bytes=5-9',
  ],
  [
    'answers a part of another length than its Content-Range',
    () => startMember(answering(206, { ...PART_HEAD, 'content-length': '4' }, PART.subarray(0, 4))),
    /a part without the range/,
    'bytes=5-9',
  ],
  [
    'answers the whole to a range',
    () => startMember(answering(200, {})),
    /the whole instead of the range/,
    'bytes=5-9',
  ],
  [
    'answers 416 to a range that exists',
    () => startMember(answering(416, { 'content-range': `bytes */${layer.bytes.length}` }, new Uint8Array())),
    /status 416/,
    'bytes=5-9',
  ],
  [
    'answers 416 to no range',
    () => startMember(answering(416, { 'content-range': 'bytes */0' }, new Uint8Array())),
    /status 416/,
  ],
]

for (const [what, startBadPeer, problem, range] of FAILURES) {
  test(`fetch asks the next peer when one ${what}, and logs why`, async () => {
    await withPeers([startBadPeer, startGoodPeer], async ({ peers, lines }) => {
      const answer = await within('an answer', peers.fetch({ target: BLOB, method: 'GET', range }, never))
      const expected = range === undefined ? layer.bytes : range === 'bytes=5-8' ? PART.subarray(0, 4) : PART
      assert.deepEqual(await contentOf(answer), Buffer.from(expected))
      const warnings = lines.filter(({ level }) => level === 'warn')
      assert.deepEqual(
        warnings.map(({ event }) => event),
        ['peer failed'],
      )
      assert.match(String(warnings[0]?.fields.error), problem)
    })
  })
}

test('fetch asks the next peer when one answers 404, which is no failure', async () => {
  const startEmptyPeer = () => startPeer(createMemoryStore())
  await withPeers([startEmptyPeer, startGoodPeer], async ({ peers, lines, told }) => {
    assert.deepEqual(
      await contentOf(await peers.fetch({ target: BLOB, method: 'GET' }, never)),
      Buffer.from(layer.bytes),
    )
    assert.deepEqual(
      lines.map(({ level, event }) => [level, event]),
      [
        ['debug', 'peer gives nothing'],
        ['info', 'transfer'],
      ],
    )
    const attempts = [...told].flatMap((transfer) => transfer.attempts.map(({ bytes, ended }) => [bytes, ended]))
    assert.deepEqual(attempts, [
      [0, 'missing'],
      [layer.bytes.length, undefined],
    ])
  })
})

test('fetch tells of no more peers of a transfer than it may, and still of all bytes', async () => {
  const startEmptyPeer = () => startPeer(createMemoryStore())
  await withPeers([...Array(20).fill(startEmptyPeer), startGoodPeer], async ({ peers, told }) => {
    await contentOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))
    const [transfer] = told
    assert.deepEqual([transfer?.attempts.length, transfer?.bytes], [8, layer.bytes.length])
  })
})

test('fetch asks for a manifest where a blob of the same digest would be the wrong media type', async () => {
  const wrong = () =>
    startMember((_, outgoing: ServerResponse) => {
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

test('fetch does not wait for a peer that says nothing for longer than the hedging delay', async () => {
  const starts = [() => startRawPeer((socket) => socket.resume()), startGoodPeer]
  await withPeers(starts, async ({ peers, metrics, lines }, [silent]) => {
    const answer = await peers.fetch({ target: BLOB, method: 'GET' }, never)
    await waitFor('the other connection is closed', () => (silent as CountingPeer).open === 0)
    assert.deepEqual(await contentOf(answer), Buffer.from(layer.bytes))
    assert.equal(await counted(metrics, 'hedges_total'), 1)
    assert.equal(await counted(metrics, 'peer_requests_total', 'outrun'), 1)
    assert.equal(lines.at(-1)?.fields.attempts, 2)
  })
})

test('fetch gives nothing when every peer has failed, each asked once', async () => {
  let asked = 0
  const startBadPeer = () =>
    startMember((_, outgoing) => {
      asked++
      outgoing.writeHead(500, { 'content-length': '0' }).end()
    })
  await withPeers(Array(5).fill(startBadPeer), async ({ peers, lines }) => {
    assert.equal(await within('a miss', peers.fetch({ target: BLOB, method: 'GET' }, never)), undefined)
    assert.equal(asked, 5)
    assert.deepEqual(lines.at(-1)?.fields.outcome, 'missing')
  })
})

test('fetch gives content without a byte, and of no other digest', async () => {
  const empty = digestOf(new Uint8Array())
  for (const [digest, isRight] of [
    [empty, true],
    [BLOB.digest, false],
  ] as const) {
    const head = { 'docker-content-digest': digest, 'content-type': layer.descriptor.mediaType, 'content-length': 0 }
    const member = await startMember((_, outgoing) => void outgoing.writeHead(200, head).end())
    const parts = makeParts()
    const peers = createPeerContent(
      { ...parts, flight: withoutFlight(slowRouter(true, [member])) },
      { ...OPTIONS, lookupTimeout: 500 },
    )
    const answer = await peers.fetch({ target: { ...BLOB, digest }, method: 'GET' }, never)
    if (isRight) assert.equal((await contentOf(answer)).length, 0)
    else assert.equal(answer, undefined)
    parts.client.close()
    await member.close()
  }
})

test('fetch goes to the next peer at once when one is busy, which is no failure', async () => {
  const startBusyPeer = () =>
    startMember((_, outgoing) => void outgoing.writeHead(503, { 'content-length': '0', 'retry-after': '1' }).end())
  await withPeers([startBusyPeer, startGoodPeer], async ({ peers, known, metrics, lines }, [busy]) => {
    assert.equal(
      (await contentOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))).length,
      layer.bytes.length,
    )
    assert.equal(await counted(metrics, 'peer_requests_total', 'busy'), 1)
    assert.equal(known.isAside(busy?.peer ?? assert.fail()), false)
    assert.ok(lines.every(({ level }) => level !== 'warn'))
    // It is asked last from then on.
    await contentOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))
    assert.equal(await counted(metrics, 'peer_requests_total', 'busy'), 1)
  })
})

for (const [what, request] of [
  ["a tag's digest", { target: MANIFEST, method: 'HEAD' }],
  ['a manifest', { target: MANIFEST, method: 'GET' }],
  ['a blob', { target: BLOB, method: 'GET' }],
  ['a part of a blob', { target: BLOB, method: 'GET', range: 'bytes=5-9' }],
] satisfies [string, PeerRequest][]) {
  test(`fetch does not believe a stranger ${what}, right as it may be`, async () => {
    const startStranger = async () => {
      const store = createMemoryStore()
      store.addImage(image, TAG)
      return await startPeer(store, createCredentials([new Uint8Array(32)]))
    }
    const startLiar = () =>
      startHttpPeer((_, outgoing) => {
        const { descriptor } = request.target === BLOB ? layer : manifest
        outgoing.writeHead(200, {
          'content-type': descriptor.mediaType,
          'content-length': descriptor.size,
          'docker-content-digest': descriptor.digest,
        })
        outgoing.end()
      })
    const use: Parameters<typeof withPeers>[1] = async ({ peers, known, lines }, strangers) => {
      assert.equal(await peers.fetch(request, never), undefined)
      const problems = lines.filter(({ level }) => level === 'warn').map(({ fields }) => String(fields.error))
      assert.equal(problems.length, 2)
      for (const problem of problems) assert.match(problem, /status (200|403) without the proof of the swarm key/)
      assert.deepEqual(
        strangers.map(({ peer }) => known.isAside(peer)),
        [true, true],
      )
    }
    // On a busy machine an answer may take longer than 300 ms, but this test is about wrong answers.
    await withPeers([startStranger, startLiar], use, { patience: 10_000, raceTimeout: 10_000 })
  })
}

test('fetch gives nothing at once when nobody has it', async () => {
  await withPeers([], async ({ peers }) => {
    assert.equal(await within('a miss', peers.fetch({ target: BLOB, method: 'GET' }, never), 4_000), undefined)
  })
})

/** A router whose lookups never end by themselves. */
function slowRouter(heedsSignal: boolean, peers: readonly TestPeer[] = []): Router & { readonly ended: boolean } {
  let ended = false
  return {
    get ended() {
      return ended
    },
    async *lookup(_, signal) {
      for (const { peer } of peers) yield peer
      await new Promise<void>((resolve) => {
        if (heedsSignal) signal.addEventListener('abort', () => resolve(), { once: true })
      })
      ended = true
    },
    known: () => ({ peers: [], isWhole: false }),
    advertise: () => undefined,
    withdraw: () => undefined,
    settled: async () => undefined,
  }
}

for (const [what, heedsSignal] of [
  ['a router that is slow', true],
  ['a router that is slow and does not heed its signal', false],
] satisfies [string, boolean][]) {
  test(`fetch gives nothing after the lookup time with ${what}`, async () => {
    const parts = makeParts()
    const peers = createPeerContent(
      { ...parts, flight: withoutFlight(slowRouter(heedsSignal)) },
      { ...OPTIONS, lookupTimeout: 50 },
    )
    const fetched = peers.fetch({ target: BLOB, method: 'GET' }, never)
    assert.equal(await within('a miss', fetched, 4_000), undefined)
    parts.client.close()
  })
}

test('fetch does not wait for the rest of a lookup, and ends it', async () => {
  const peer = await startGoodPeer()
  const router = slowRouter(true, [peer])
  const parts = makeParts()
  const peers = createPeerContent({ ...parts, flight: withoutFlight(router) }, { ...OPTIONS, lookupTimeout: 60_000 })
  assert.deepEqual(await contentOf(await peers.fetch({ target: BLOB, method: 'GET' }, never)), Buffer.from(layer.bytes))
  await waitFor('the lookup has ended', () => router.ended)
  parts.client.close()
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
