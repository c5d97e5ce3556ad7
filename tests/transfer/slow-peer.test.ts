/** Peers whose bodies stand still although they work, over real sockets: left for others, and asked again last. */
import assert from 'node:assert/strict'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { test } from 'node:test'
import { formatContentRange, parseRange } from '../../lib/oci/range.ts'
import type { Peer } from '../../lib/swarm/router.ts'
import type { PeerHealth } from '../../lib/transfer/peer-health.ts'
import { BLOB, contentOf, counted, HEAD, layer, startGoodPeer, startMember, withPeers } from '../fixtures/http-peers.ts'
import { never } from '../fixtures/layout.ts'
import { waitFor, within } from '../fixtures/wait.ts'

const CONTENT = Buffer.from(layer.bytes)

/** A member that gives so many bytes of what it is first asked for, and then does `next`; after that it is a good one. */
function startsWith(length: number, next: (incoming: IncomingMessage, outgoing: ServerResponse) => void) {
  const peer = {
    asked: 0,
    start: () =>
      startMember((incoming, outgoing) => {
        const requested = parseRange(incoming.headers.range ?? null, CONTENT.length)
        const range = requested.kind === 'part' ? requested.range : { start: 0, end: CONTENT.length - 1 }
        const part = CONTENT.subarray(range.start, range.end + 1)
        outgoing.writeHead(requested.kind === 'part' ? 206 : 200, {
          ...HEAD,
          'content-length': part.length,
          ...(requested.kind === 'part' ? { 'content-range': formatContentRange(range, CONTENT.length) } : {}),
        })
        if (peer.asked++ > 0) outgoing.end(part)
        else outgoing.write(part.subarray(0, length), () => next(incoming, outgoing))
      }),
  }
  return peer
}

/** Makes it the first that is asked. */
function prefer(health: PeerHealth, peer: Peer): void {
  health.answered(peer, 1)
  health.proven(peer)
}

test('fetch does not go back to a peer that was left for being slow while there is another one', async () => {
  const slow = startsWith(100_000, () => undefined)
  const breaking = startsWith(50_000, (incoming) => incoming.socket.destroy())
  await withPeers(
    [slow.start, breaking.start, startGoodPeer],
    async ({ peers, health, metrics }, [first, , good]) => {
      const [peer, last] = [first?.peer ?? assert.fail(), good?.peer ?? assert.fail()]
      prefer(health, peer)
      // Even so it is better than the slow one.
      health.busy(last, 10_000)
      const body = contentOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))
      await waitFor('the third one goes on', async () => {
        health.heard(peer)
        return (await counted(metrics, 'transfer_resumes_total')) === 2
      })
      assert.deepEqual(await within('the body', body), CONTENT)
      assert.deepEqual([slow.asked, breaking.asked], [1, 1])
    },
    { parallelPeers: 1 },
  )
})

test('fetch goes back to a peer that was left for being slow when there is nobody else', async () => {
  const slow = startsWith(100_000, () => undefined)
  const breaking = startsWith(50_000, (incoming) => incoming.socket.destroy())
  await withPeers(
    [slow.start, breaking.start],
    async ({ peers, health, metrics }, [first]) => {
      const peer = first?.peer ?? assert.fail()
      prefer(health, peer)
      const body = contentOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))
      await waitFor('it has been left, and is asked again', async () => {
        health.heard(peer)
        return (await counted(metrics, 'transfer_resumes_total')) === 2
      })
      assert.deepEqual(await within('the body', body), CONTENT)
      assert.deepEqual(slow.asked, 2)
    },
    { parallelPeers: 1 },
  )
})
