/**
 * Peers whose answers are meant to do harm. Each costs bounded time, memory and connections, and another peer's answer is used.
 */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withoutFlight } from '../../lib/flight/flight.ts'
import { digestKey, tagKey } from '../../lib/oci/key.ts'
import { PeerClient } from '../../lib/peers/client.ts'
import type { KnownPeers } from '../../lib/peers/known-peers.ts'
import { createPeerContent, type PeerContent } from '../../lib/transfer/peer-content.ts'
import type { CountingPeer, TestPeer } from '../doubles/http-peer.ts'
import {
  BLOB,
  contentOf,
  HEAD,
  image,
  layer,
  MANIFEST,
  makeParts,
  manifest,
  OPTIONS,
  startGoodPeer,
  TAG,
} from '../doubles/http-peers.ts'
import { MemorySwarm } from '../doubles/memory-swarm.ts'
import { drip, type MakeHead, pour, startRawMember } from '../doubles/raw-member.ts'
import { never } from '../fixtures/layout.ts'
import { inTime, waitFor, within } from '../fixtures/wait.ts'

const CONTENT = Buffer.from(layer.bytes)
const SIZE = CONTENT.length
/** The times of a mirror, but shorter. The client waits longer for a head than any race. */
const TIMES = { ...OPTIONS, patience: 300, raceTimeout: 1_500, longestRace: 3_000, stallTimeout: 300, window: 500 }
/** Milliseconds that one request may take whatever peers do, with a reserve for a busy machine. */
const BOUND = 10_000
/** Most bytes that one connection takes although nobody wants them: the buffers of both kernels. */
const MOST_TAKEN = 16 * 1024 * 1024

type Socket = Parameters<Parameters<typeof startRawMember>[0]>[0]
type Act = (socket: Socket, head: MakeHead) => void

interface Setting {
  readonly peers: PeerContent
  readonly known: KnownPeers
  /** The most bytes that any connection took from the hostile peer. */
  readonly taken: () => number
}

/** Runs `use` with a `PeerContent` that asks a hostile member first, and then perhaps a good one. */
async function withHostile(
  act: Act,
  isHelped: boolean,
  use: (setting: Setting, hostile: CountingPeer) => Promise<void>,
) {
  const sockets = new Set<Socket>()
  const hostile = await startRawMember((socket, head) => {
    sockets.add(socket)
    act(socket, head)
  })
  const all: TestPeer[] = isHelped ? [hostile, await startGoodPeer()] : [hostile]
  const parts = { ...makeParts(), client: new PeerClient({ headTimeout: 60_000 }) }
  try {
    const swarm = new MemorySwarm()
    const keys = [...image.contents.map(({ descriptor }) => digestKey(descriptor.digest)), tagKey(TAG)]
    for (const { peer } of all) swarm.join(peer).advertise(keys)
    const router = swarm.join({ host: '127.0.0.1', port: 1 })
    parts.known.of(hostile.peer).answered(1)
    const peers = createPeerContent({ ...parts, flight: withoutFlight(router) }, TIMES)
    const taken = () => Math.max(0, ...[...sockets].map((socket) => socket.bytesWritten - socket.writableLength))
    await use({ peers, known: parts.known, taken }, hostile)
  } finally {
    parts.client.close()
    for (const peer of all) await peer.close()
  }
}

const LONG = 'x'.repeat(10_000)
const without = (name: keyof typeof HEAD) => Object.fromEntries(Object.entries(HEAD).filter(([key]) => key !== name))

/** Faults before or in the head. None of them may reach the client. */
const HEADS: readonly [what: string, act: Act][] = [
  ['drips its head', (socket) => drip(socket, () => 'H')],
  [
    'drips headers without end',
    (socket, head) => {
      socket.write(head(200, HEAD).slice(0, -2))
      drip(socket, () => 'X-More: x\r\n')
    },
  ],
  [
    'sends headers without end',
    (socket, head) => {
      socket.write(head(200, HEAD).slice(0, -2))
      pour(socket, () => 'X-More: x\r\n')
    },
  ],
  [
    'sends a header without end',
    (socket, head) => {
      socket.write(`${head(200, HEAD).slice(0, -2)}X-More: `)
      pour(socket, () => LONG)
    },
  ],
  [
    'sends a status line without end',
    (socket) => {
      socket.write('HTTP/1.1 200 ')
      pour(socket, () => LONG)
    },
  ],
  ['sends answers before the answer without end', (socket) => pour(socket, () => 'HTTP/1.1 100 Continue\r\n\r\n')],
  ['drips answers before the answer', (socket) => drip(socket, () => 'HTTP/1.1 103 Early Hints\r\n\r\n')],
  ['switches protocols', (socket) => socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n')],
  ['sends noise without end', (socket) => pour(socket, () => Buffer.alloc(10_000, 0xfe))],
  ['answers in HTTP/1.0', (socket, head) => socket.write(head(200, HEAD).replace('1.1', '1.0'))],
  [
    'sends elsewhere',
    (socket, head) => socket.write(head(307, { location: 'http://127.0.0.1:9/', 'content-length': 0 })),
  ],
  [
    'sends a refusal without end',
    (socket, head) => {
      socket.write(head(404, { 'content-length': 2 ** 50 }))
      pour(socket, () => LONG)
    },
  ],
  [
    'drips a refusal',
    (socket, head) => {
      socket.write(head(404, { 'content-length': 1_000 }))
      drip(socket, () => 'x')
    },
  ],
  [
    'sends an error in chunks without end',
    (socket, head) => {
      socket.write(head(500, { 'transfer-encoding': 'chunked' }))
      pour(socket, () => `1000\r\n${'x'.repeat(0x1000)}\r\n`)
    },
  ],
  ['declares two lengths', (socket, head) => socket.write(head(200, { ...HEAD, 'Content-Length': SIZE + 1 }))],
  [
    'declares a length that is no number',
    (socket, head) => socket.write(head(200, { ...HEAD, 'content-length': '1e9' })),
  ],
  [
    'declares a length beyond all numbers',
    (socket, head) => socket.write(head(200, { ...HEAD, 'content-length': '9'.repeat(30) })),
  ],
  [
    'declares a length and sends chunks',
    (socket, head) => socket.write(head(200, { ...HEAD, 'transfer-encoding': 'chunked' })),
  ],
  [
    'sends chunks of no length',
    (socket, head) => {
      socket.write(head(200, { ...without('content-length'), 'transfer-encoding': 'chunked' }))
      pour(socket, () => `1000\r\n${'x'.repeat(0x1000)}\r\n`)
    },
  ],
  [
    'sends a body of no length until it closes',
    (socket, head) => {
      socket.write(head(200, without('content-length')))
      pour(socket, () => LONG)
    },
  ],
  [
    'answers with a part to no range',
    (socket, head) => socket.write(head(206, { ...HEAD, 'content-range': `bytes 0-${SIZE - 1}/${SIZE}` })),
  ],
  [
    'says that no range exists',
    (socket, head) => socket.write(head(416, { 'content-range': 'bytes */0', 'content-length': 0 })),
  ],
  [
    'asks to be asked again in a million seconds',
    (socket, head) => socket.write(head(503, { 'retry-after': '999999', 'content-length': 0 })),
  ],
]

for (const [what, act] of HEADS) {
  test(`fetch returns a good peer's content at once, or nothing in bounded time without one, when a peer ${what}`, async () => {
    for (const isHelped of [true, false]) {
      await withHostile(act, isHelped, async ({ peers, taken }, hostile) => {
        const answer = await within('an answer', peers.fetch({ target: BLOB, method: 'GET' }, never), BOUND)
        if (isHelped) assert.deepEqual(await within('the body', contentOf(answer), BOUND), CONTENT)
        else assert.equal(answer, undefined)
        assert.ok(hostile.accepted > 0)
        await waitFor('its connections are closed or idle', () => hostile.open <= 1)
        assert.ok(taken() <= MOST_TAKEN, `${taken()} bytes`)
      })
    }
  })
}

/** Faults in the body, after a correct head. */
const BODIES: readonly [what: string, act: (socket: Socket, content: Uint8Array) => void][] = [
  ['gives no byte', () => undefined],
  [
    'drips it',
    (socket, content) => {
      let at = 0
      drip(socket, () => content.subarray(at, ++at), 50)
    },
  ],
  ['ends it early', (socket, content) => socket.end(content.subarray(0, 100))],
  [
    'sends more than it declared',
    (socket, content) => {
      socket.write(content)
      pour(socket, () => LONG)
    },
  ],
]

for (const [what, act] of BODIES) {
  test(`fetch returns a whole blob, from whoever has it, when a peer declares the whole and then ${what}`, async () => {
    const hostile: Act = (socket, head) => {
      socket.write(head(200, HEAD))
      act(socket, CONTENT)
    }
    await withHostile(hostile, true, async ({ peers, taken }, other) => {
      const answer = await within('an answer', peers.fetch({ target: BLOB, method: 'GET' }, never), BOUND)
      assert.deepEqual(await within('the body', contentOf(answer)), CONTENT)
      await waitFor('its connections are closed or idle', () => other.open <= 1)
      assert.ok(taken() <= MOST_TAKEN, `${taken()} bytes`)
    })
  })

  test(`fetch returns a whole manifest, from a good peer, when another declares the whole and then ${what}`, async () => {
    const hostile: Act = (socket, head) => {
      const { mediaType, digest, size } = manifest.descriptor
      socket.write(head(200, { 'content-type': mediaType, 'content-length': size, 'docker-content-digest': digest }))
      act(socket, manifest.bytes)
    }
    await withHostile(hostile, true, async ({ peers }) => {
      for (let round = 0; round < 3; round++) {
        const answer = await within('an answer', peers.fetch({ target: MANIFEST, method: 'GET' }, never), BOUND)
        assert.deepEqual(await contentOf(answer), Buffer.from(manifest.bytes))
      }
    })
  })
}

for (const lie of [1, SIZE - 1, SIZE + 1, 2 ** 50]) {
  test(`fetch never completes a blob that a peer declares to have ${lie} bytes, and then takes it from another one`, async () => {
    const hostile: Act = (socket, head) => {
      socket.write(head(200, { ...HEAD, 'content-length': lie }))
      socket.end(CONTENT.subarray(0, lie))
    }
    await withHostile(hostile, true, async ({ peers, known }, { peer }) => {
      const answer = await within('an answer', peers.fetch({ target: BLOB, method: 'GET' }, never), BOUND)
      // The content is small enough to be verified before it is sent; otherwise it would never be sent completely.
      if (lie === 1) assert.deepEqual(await contentOf(answer), CONTENT)
      else await assert.rejects(within('the end of the body', contentOf(answer), BOUND), inTime)
      assert.equal(known.isWrong(peer, digestKey(BLOB.digest)), true)
      const again = await within('an answer', peers.fetch({ target: BLOB, method: 'GET' }, never), BOUND)
      assert.deepEqual(await within('the body', contentOf(again)), CONTENT)
    })
  })
}
