import assert from 'node:assert/strict'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatContentRange, parseRange } from '../../lib/oci/range.ts'
import { type CountingPeer, startRawPeer, type TestPeer } from '../doubles/http-peer.ts'
import {
  BLOB,
  bodyOf,
  contentOf,
  counted,
  HEAD,
  layer,
  read,
  type Setting,
  startGoodPeer,
  startMember,
  withPeers,
} from '../doubles/http-peers.ts'
import { never } from '../fixtures/layout.ts'
import { inTime, waitFor, within } from '../fixtures/wait.ts'

const HALF = 100_000
const CONTENT = Buffer.from(layer.bytes)

/**
 * Answers like a good member, perhaps with wrong bytes, but calls `next` after some bytes of the body. After some requests it
 * no longer answers.
 */
function partThen(
  length: number,
  next: (incoming: IncomingMessage, outgoing: ServerResponse) => void,
  { bytes = layer.bytes, times = Number.POSITIVE_INFINITY }: { bytes?: Uint8Array; times?: number } = {},
): () => Promise<CountingPeer> {
  let answers = 0
  return () =>
    startMember((incoming, outgoing) => {
      if (++answers > times) {
        incoming.socket.destroy()
        return
      }
      const requested = parseRange(incoming.headers.range ?? null, bytes.length)
      assert.notEqual(requested.kind, 'unsatisfiable')
      const range = requested.kind === 'part' ? requested.range : { start: 0, end: bytes.length - 1 }
      const part = bytes.subarray(range.start, range.end + 1)
      outgoing.writeHead(requested.kind === 'part' ? 206 : 200, {
        ...HEAD,
        'content-length': part.length,
        ...(requested.kind === 'part' ? { 'content-range': formatContentRange(range, bytes.length) } : {}),
      })
      outgoing.write(part.subarray(0, length), () => next(incoming, outgoing))
    })
}

/** Every way in which a body can fail, and the reason for which it is counted. */
const BREAKS: readonly [
  what: string,
  reason: string,
  next: (incoming: IncomingMessage, outgoing: ServerResponse) => void,
][] = [
  ['ends the connection', 'unreachable', (incoming) => incoming.socket.destroySoon()],
  ['resets the connection', 'unreachable', (incoming) => incoming.socket.resetAndDestroy()],
  ['goes silent', 'silent', () => undefined],
]

for (const [what, reason, next] of BREAKS) {
  test(`fetch continues at the offset from another peer when one ${what} in the middle`, async () => {
    await withPeers(
      [partThen(HALF, next), startGoodPeer],
      async ({ peers, known, metrics, lines, told }, [bad, good]) => {
        const answer = await peers.fetch({ target: BLOB, method: 'GET' }, never)
        assert.deepEqual(await within('the body', contentOf(answer)), CONTENT)
        assert.equal(await counted(metrics, 'transfer_breaks_total', `reason="${reason}"`), 1)
        assert.equal(await counted(metrics, 'transfer_resumes_total'), 1)
        // No byte came twice.
        assert.equal(await counted(metrics, 'transfer_bytes_total'), CONTENT.length)
        const [failed, other] = [bad?.peer ?? assert.fail(), good?.peer ?? assert.fail()]
        assert.deepEqual(known.rank([failed, other]), [other, failed])
        const { source, outcome, resumes, attempts } = lines.at(-1)?.fields ?? {}
        const names = [bad, good].map((peer) => `127.0.0.1:${peer?.peer.port}`)
        assert.deepEqual([source, outcome, resumes, attempts], [names, 'complete', 1, 2])
        // The report says how much each peer gave, and why one gave no more.
        const [transfer] = told
        const [first, second] = transfer?.attempts ?? []
        assert.deepEqual([transfer?.outcome, transfer?.attempts.length], ['complete', 2])
        assert.deepEqual(
          [first?.peer, first?.ended, second?.peer, second?.ended],
          [names[0], reason, names[1], undefined],
        )
        assert.ok((first?.bytes ?? 0) >= HALF && (first?.bytes ?? 0) + (second?.bytes ?? 0) === CONTENT.length)
        assert.ok((second?.from ?? 0) > (first?.from ?? 0) && (second?.to ?? 0) >= (first?.to ?? 0))
        await waitFor('the connection is closed', () => (bad as CountingPeer).open === 0)
      },
    )
  })

  test(`fetch returns a body that ends with an error, in bounded time, when the only peer ${what} in the middle`, async () => {
    const received: Uint8Array[] = []
    await withPeers([partThen(HALF, next, { times: 1 })], async ({ peers, metrics }, [peer]) => {
      const answer = await peers.fetch({ target: BLOB, method: 'GET' }, never)
      await assert.rejects(within('the end of the body', read(bodyOf(answer), received)), /no peer left for the bytes/)
      const bytes = Buffer.concat(received)
      assert.ok(bytes.length >= HALF && bytes.length < CONTENT.length)
      assert.ok(bytes.equals(CONTENT.subarray(0, bytes.length)))
      assert.equal(await counted(metrics, 'transfers_total', 'outcome="failed"'), 1)
      assert.equal(await counted(metrics, 'transfers_running'), 0)
      await waitFor('the connection is closed', () => (peer as CountingPeer).open === 0)
    })
  })
}

test('fetch continues as often as there are peers', async () => {
  const starts = [1, 2, 3, 4, 5, 6].map(() => partThen(30_000, (incoming) => incoming.socket.destroy()))
  await withPeers(
    [...starts, startGoodPeer],
    async ({ peers, metrics }) => {
      const answer = await peers.fetch({ target: BLOB, method: 'GET' }, never)
      assert.deepEqual(await within('the body', contentOf(answer)), CONTENT)
      assert.equal(await counted(metrics, 'transfer_resumes_total'), 6)
    },
    { parallelPeers: 1 },
  )
})

test('fetch returns a prefix of the right bytes whatever peers do, and all of them only if it ends', async () => {
  const peer = fc.record({
    length: fc.nat(CONTENT.length),
    next: fc.constantFrom(...BREAKS.map(([, , next]) => next)),
    wrong: fc.option(fc.nat(CONTENT.length - 1), { freq: 4 }),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(peer, { minLength: 1, maxLength: 4 }), fc.boolean(), async (behaviours, isHelped) => {
      const starts = behaviours.map(({ length, next, wrong }) => {
        const bytes = Uint8Array.from(CONTENT)
        if (wrong !== null) bytes[wrong] = ~(bytes[wrong] ?? 0)
        return partThen(length, next, { bytes })
      })
      const options = { stallTimeout: 100, raceTimeout: 500 }
      const use = async ({ peers, client, metrics }: Setting, started: readonly TestPeer[]) => {
        const received: Uint8Array[] = []
        const answer = await within('an answer', peers.fetch({ target: BLOB, method: 'GET' }, never))
        if (answer !== undefined) {
          const complete = await within('the end', read(bodyOf(answer), received)).then(
            () => true,
            () => false,
          )
          await bodyOf(answer).cancel()
          const bytes = Buffer.concat(received)
          assert.equal(bytes.equals(CONTENT), complete)
          if (behaviours.every(({ wrong }) => wrong === null)) {
            assert.ok(bytes.equals(CONTENT.subarray(0, bytes.length)))
            if (isHelped) assert.ok(complete)
          }
        }
        assert.equal(await counted(metrics, 'transfers_running'), 0)
        const isClosed = () => started.every((one) => !('open' in one) || one.open === 0)
        // Connections whose bodies were read to their end are kept for the next request.
        client.close()
        await waitFor('the connections are closed', isClosed)
      }
      await withPeers(isHelped ? [...starts, startGoodPeer] : starts, use, options)
    }),
    { numRuns: 30 },
  )
})

test('fetch continues within the requested part', async () => {
  await withPeers([partThen(HALF, (incoming) => incoming.socket.destroy()), startGoodPeer], async ({ peers }) => {
    const answer = await peers.fetch({ target: BLOB, method: 'GET', range: 'bytes=50000-240000' }, never)
    assert.deepEqual(await within('the body', contentOf(answer)), CONTENT.subarray(50_000, 240_001))
  })
})

test('fetch does not continue with content of another size', async () => {
  const startLonger = partThen(Number.POSITIVE_INFINITY, () => undefined, { bytes: Buffer.concat([CONTENT, CONTENT]) })
  const starts = [partThen(HALF, (incoming) => incoming.socket.destroy()), startLonger, startGoodPeer]
  await withPeers(starts, async ({ peers, known, lines }, [first, longer]) => {
    const answer = await peers.fetch({ target: BLOB, method: 'GET' }, never)
    assert.deepEqual(await within('the body', contentOf(answer)), CONTENT)
    const told = lines.find(({ level, event }) => level === 'warn' && event === 'peers disagree')?.fields
    assert.deepEqual([told?.size, told?.told, told?.peer], [CONTENT.length, [first?.peer], longer?.peer])
    // It is not known which one is right, so the peer is not put aside for everything.
    assert.equal(known.isAside(longer?.peer ?? assert.fail()), false)
  })
})

test('fetch does not mistake a slow client for a slow peer', async () => {
  await withPeers([startGoodPeer], async ({ peers, metrics }) => {
    const body = bodyOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))
    const received = [Uint8Array.from((await body.next()) ?? assert.fail())]
    // Longer than a peer may be silent.
    await new Promise((resolve) => setTimeout(resolve, 400))
    await read(body, received)
    assert.deepEqual(Buffer.concat(received), CONTENT)
    assert.equal(await counted(metrics, 'transfer_breaks_total'), 0)
  })
})

test('fetch leaves no connection when it is aborted before the head', async () => {
  const starts = [() => startRawPeer((socket) => socket.resume())]
  await withPeers(starts, async ({ peers, metrics, lines }, [peer]) => {
    const stop = new AbortController()
    const fetched = peers.fetch({ target: BLOB, method: 'GET' }, stop.signal)
    await waitFor('the request is there', () => (peer as CountingPeer).open === 1)
    stop.abort(new Error('the client left'))
    await assert.rejects(within('the end of the fetch', fetched, 10_000), /the client left/)
    await waitFor('the connection is closed', () => (peer as CountingPeer).open === 0)
    assert.deepEqual(
      lines.map(({ level, event, fields }) => [level, event, fields.outcome]),
      [['info', 'transfer', 'cancelled']],
    )
    assert.equal(await counted(metrics, 'transfers_running'), 0)
  })
})

for (const [what, begin] of [
  ['before its first byte is read', false],
  ['while it is being read', true],
] satisfies [string, boolean][]) {
  test(`fetch leaves no connection when a body is cancelled ${what}`, async () => {
    await withPeers([partThen(HALF, () => undefined)], async ({ peers, metrics, lines }, [peer]) => {
      const body = bodyOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))
      if (begin) assert.notEqual(await body.next(), undefined)
      await within('the end of the body', body.cancel(), 10_000)
      await assert.rejects(body.next())
      await waitFor('the connection is closed', () => (peer as CountingPeer).open === 0)
      assert.equal(lines.at(-1)?.fields.outcome, 'cancelled')
      assert.equal(await counted(metrics, 'transfers_running'), 0)
    })
  })
}

test('fetch leaves no connection when a body is cancelled while it waits for a byte', async () => {
  await withPeers([partThen(HALF, () => undefined)], async ({ peers }, [peer]) => {
    const body = bodyOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))
    const reading = read(body)
    await waitFor('the body is waited for', () => (peer as CountingPeer).open === 1)
    await within('the end of the body', body.cancel(), 10_000)
    await assert.rejects(within('the end of reading', reading, 10_000), inTime)
    await waitFor('the connection is closed', () => (peer as CountingPeer).open === 0)
  })
})
