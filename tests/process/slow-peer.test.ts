/** Peers that work but whose bodies stand still, over real sockets. Others take their place, and they are asked again last. */
import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { test } from 'node:test'
import { formatContentRange, parseRange } from '../../lib/oci/range.ts'
import type { KnownPeers } from '../../lib/peers/known-peers.ts'
import type { Peer } from '../../lib/swarm/router.ts'
import { BLOB, contentOf, counted, HEAD, layer, startGoodPeer, startMember, withPeers } from '../doubles/http-peers.ts'
import { never } from '../fixtures/layout.ts'
import { waitFor, within } from '../fixtures/wait.ts'

const CONTENT = Buffer.from(layer.bytes)

type Answer = (outgoing: ServerResponse, status: number, head: Record<string, string | number>, part: Buffer) => void

const well: Answer = (outgoing, status, head, part) => void outgoing.writeHead(status, head).end(part)
const busy: Answer = (outgoing) => void outgoing.writeHead(503, { 'content-length': 0, 'retry-after': '5' }).end()
const stalling: Answer = (outgoing, status, head, part) =>
  void outgoing.writeHead(status, head).write(part.subarray(0, 100_000))
const breaking: Answer = (outgoing, status, head, part) =>
  void outgoing.writeHead(status, head).write(part.subarray(0, 50_000), () => outgoing.destroy())

/** A member that gives its first answer with `first`, and later ones correctly. */
function firstAnswers(first: Answer) {
  const member = {
    asked: 0,
    start: () =>
      startMember((incoming, outgoing) => {
        const requested = parseRange(incoming.headers.range ?? null, CONTENT.length)
        const range = requested.kind === 'part' ? requested.range : { start: 0, end: CONTENT.length - 1 }
        const part = CONTENT.subarray(range.start, range.end + 1)
        const head = { ...HEAD, 'content-length': part.length }
        const give = member.asked++ === 0 ? first : well
        if (requested.kind === 'part')
          give(outgoing, 206, { ...head, 'content-range': formatContentRange(range, CONTENT.length) }, part)
        else give(outgoing, 200, head, part)
      }),
  }
  return member
}

/** Makes these peers the first ones to be asked, in this order. */
function prefer(known: KnownPeers, ...peers: readonly Peer[]): void {
  for (const [index, peer] of peers.entries()) {
    known.of(peer).answered(4 ** index)
  }
}

test('fetch does not return to a slow peer that it left while there is another one', async () => {
  const [other, slow, third] = [firstAnswers(busy), firstAnswers(stalling), firstAnswers(breaking)]
  await withPeers(
    [other.start, slow.start, third.start],
    async ({ peers, known, metrics }, [first, second]) => {
      const [peer, busyPeer] = [second?.peer ?? assert.fail(), first?.peer ?? assert.fail()]
      prefer(known, busyPeer, peer)
      const body = contentOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))
      await waitFor('the other one goes on, although it may still be busy', async () => {
        known.of(peer).gave()
        return (await counted(metrics, 'transfer_resumes_total')) === 2
      })
      assert.deepEqual(await within('the body', body), CONTENT)
      assert.deepEqual([slow.asked, third.asked, other.asked], [1, 1, 2])
    },
    { parallelPeers: 1 },
  )
})

test('fetch returns to a slow peer that it left when there is nobody else', async () => {
  const [slow, other] = [firstAnswers(stalling), firstAnswers(breaking)]
  await withPeers(
    [slow.start, other.start],
    async ({ peers, known, metrics }, [first]) => {
      const peer = first?.peer ?? assert.fail()
      prefer(known, peer)
      const body = contentOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))
      await waitFor('it has been left, and is asked again', async () => {
        known.of(peer).gave()
        return (await counted(metrics, 'transfer_resumes_total')) === 2
      })
      assert.deepEqual(await within('the body', body), CONTENT)
      assert.deepEqual([slow.asked, other.asked], [2, 1])
    },
    { parallelPeers: 1 },
  )
})

test('fetch loses one stall to a peer that sends heads and no bytes, not one for each blob', async () => {
  let asked = 0
  const startEmpty = () =>
    startMember((_, outgoing) => {
      asked++
      outgoing.writeHead(200, HEAD).flushHeaders()
    })
  await withPeers([startEmpty, startGoodPeer], async ({ peers, known, metrics }, [empty]) => {
    const peer = empty?.peer ?? assert.fail()
    prefer(known, peer)
    for (let round = 0; round < 4; round++) {
      assert.deepEqual(
        await within('the body', contentOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))),
        CONTENT,
      )
    }
    // After the first time it is asked only if the other peer is slow, as on a busy machine.
    const most = 1 + (await counted(metrics, 'hedges_total'))
    assert.ok(asked <= most, `${asked} times`)
    const stalls = await counted(metrics, 'transfer_breaks_total', 'reason="silent"')
    assert.ok(stalls >= 1 && stalls <= most, `${stalls} stalls`)
  })
})
