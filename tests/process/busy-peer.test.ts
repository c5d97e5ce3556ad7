/** A peer door that works but is slow to send a head, over real sockets: busy is not dead. */

import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { test } from 'node:test'
import { withoutFlight } from '../../lib/flight/flight.ts'
import { digestKey } from '../../lib/oci/key.ts'
import { PeerClient } from '../../lib/peers/client.ts'
import type { Router } from '../../lib/swarm/router.ts'
import { createPeerContent } from '../../lib/transfer/peer-content.ts'
import type { TestPeer } from '../doubles/http-peer.ts'
import {
  BLOB,
  contentOf,
  counted,
  HEAD,
  layer,
  makeParts,
  OPTIONS,
  startGoodPeer,
  startMember,
} from '../doubles/http-peers.ts'
import { MemorySwarm } from '../doubles/memory-swarm.ts'
import { never } from '../fixtures/layout.ts'
import { waitFor, within } from '../fixtures/wait.ts'

/** Milliseconds after which a peer is late here, and after which a request ends in any case. */
const PATIENCE = 200
const BOUND = 2_000
/** A request for a range. In a test each one begins before the last one, so that none can share an earlier flow. */
const request = (start: number) => ({ target: BLOB, method: 'GET', range: `bytes=${start}-` }) as const

/** A holder that answers when the test lets it. */
async function startHeldPeer() {
  const held: (() => void)[] = []
  let isFree = true
  const answer = (range: string, outgoing: ServerResponse) => {
    const start = Number(/\d+/.exec(range)?.[0])
    const bytes = layer.bytes.subarray(start)
    const part = {
      'content-length': String(bytes.length),
      'content-range': `bytes ${start}-${layer.bytes.length - 1}/${layer.bytes.length}`,
    }
    outgoing.writeHead(206, { ...HEAD, ...part })
    outgoing.end(bytes)
  }
  const peer = await startMember((incoming, outgoing) => {
    const give = () => answer(String(incoming.headers.range), outgoing)
    if (isFree) give()
    else held.push(give)
  })
  return {
    peer,
    held,
    hold() {
      isFree = false
    },
    free() {
      isFree = true
      for (const give of held.splice(0)) give()
    },
  }
}

/** Runs `use` with a `PeerContent` for the given peers. */
async function withHolders(
  holders: readonly TestPeer[],
  use: (
    setting: ReturnType<typeof makeParts> & { readonly peers: ReturnType<typeof createPeerContent> },
  ) => Promise<void>,
) {
  const parts = { ...makeParts(), client: new PeerClient({ headTimeout: 10 * BOUND }) }
  const swarm = new MemorySwarm()
  for (const { peer } of holders) swarm.join(peer).advertise([digestKey(BLOB.digest)])
  const router: Router = swarm.join({ host: '127.0.0.1', port: 1 })
  const peers = createPeerContent(
    { ...parts, flight: withoutFlight(router) },
    { ...OPTIONS, patience: PATIENCE, raceTimeout: BOUND },
  )
  try {
    await use({ ...parts, peers })
  } finally {
    parts.client.close()
    for (const holder of holders) await holder.close()
  }
}

test('fetch waits for the only holder although it is late, if it was heard from a moment ago, and so do later requests', async () => {
  const slow = await startHeldPeer()
  await withHolders([slow.peer], async ({ peers, known, lines }) => {
    await contentOf(await peers.fetch(request(7), never))
    slow.hold()
    const fetches = [6, 5, 4, 3].map((start) => peers.fetch(request(start), never))
    await waitFor('all of them are late', () => lines.filter(({ event }) => event === 'peer is late').length === 4)
    // A request that comes when the peer is already late.
    fetches.push(peers.fetch(request(2), never))
    await waitFor('it is asked, too', () => slow.held.length === 5)
    assert.equal(known.isAside(slow.peer.peer), false)
    slow.free()
    for (const [index, fetched] of fetches.entries())
      assert.deepEqual(await contentOf(await fetched), Buffer.from(layer.bytes.subarray(6 - index)))
  })
})

test('fetch gives up a late holder that was never heard from, and does not wait for it again', async () => {
  const slow = await startHeldPeer()
  slow.hold()
  await withHolders([slow.peer], async ({ peers, known, metrics }) => {
    assert.equal(await within('the end', peers.fetch(request(1), never), BOUND), undefined)
    assert.equal(known.isAside(slow.peer.peer), true)
    assert.equal(slow.held.length, 1)
    assert.equal(await peers.fetch(request(2), never), undefined)
    assert.equal(slow.held.length, 1)
    assert.equal(await counted(metrics, 'peer_requests_total', 'outcome="silent"'), 1)
  })
})

test('fetch ends in time when the only holder, heard from a moment ago, has fallen silent', async () => {
  const slow = await startHeldPeer()
  await withHolders([slow.peer], async ({ peers }) => {
    await contentOf(await peers.fetch(request(1), never))
    slow.hold()
    assert.equal(await within('the end', peers.fetch(request(2), never), 3 * BOUND), undefined)
  })
})

test('fetch asks a late holder after others', async () => {
  const slow = await startHeldPeer()
  const good = await startGoodPeer()
  await withHolders([slow.peer, good], async ({ peers, known, metrics }) => {
    known.of(slow.peer.peer).answered(1)
    slow.hold()
    // This takes one hedging delay if the silent peer is found first. After that the other one is asked at once.
    await contentOf(await peers.fetch(request(1), never))
    assert.equal(known.of(slow.peer.peer).failed('silent'), true)
    const before = slow.held.length
    for (const start of [2, 3, 4]) {
      assert.deepEqual(known.rank([slow.peer.peer, good.peer]), [good.peer, slow.peer.peer])
      await contentOf(await peers.fetch(request(start), never))
    }
    assert.equal(await counted(metrics, 'peer_requests_total', 'outcome="content"'), 4)
    assert.ok(slow.held.length - before <= (await counted(metrics, 'hedges_total')))
  })
})

/** A holder that refuses its first `refusals` requests with 503. */
async function startFullPeer(refusals: number) {
  let asked = 0
  const peer = await startMember((_, outgoing) => {
    const isBusy = asked++ < refusals
    outgoing.writeHead(isBusy ? 503 : 200, isBusy ? { 'retry-after': '1', 'content-length': 0 } : HEAD)
    outgoing.end(isBusy ? undefined : layer.bytes)
  })
  return { peer, asked: () => asked }
}

test('fetch asks the only holder again when it is busy, at the time that it names', async () => {
  const full = await startFullPeer(1)
  await withHolders([full.peer], async ({ peers, metrics }) => {
    assert.deepEqual(
      await contentOf(await peers.fetch({ target: BLOB, method: 'GET' }, never)),
      Buffer.from(layer.bytes),
    )
    assert.equal(full.asked(), 2)
    assert.equal(await counted(metrics, 'peer_requests_total', 'outcome="busy"'), 1)
  })
})

test('fetch gives up the only holder if it is busy for longer than a race takes', async () => {
  const full = await startFullPeer(Number.POSITIVE_INFINITY)
  await withHolders([full.peer], async ({ peers }) => {
    assert.equal(await within('the end', peers.fetch({ target: BLOB, method: 'GET' }, never), 3 * BOUND), undefined)
    assert.ok(full.asked() > 1)
  })
})

test('fetch ends when it is aborted while it waits for a busy holder', async () => {
  const full = await startFullPeer(Number.POSITIVE_INFINITY)
  await withHolders([full.peer], async ({ peers }) => {
    const stop = new AbortController()
    const fetched = peers.fetch({ target: BLOB, method: 'GET' }, stop.signal)
    await waitFor('it is refused', () => full.asked() === 1)
    stop.abort(new Error('stop'))
    await assert.rejects(within('the end', fetched, BOUND), /^Error: stop$/)
  })
})

/** A holder whose bodies stall after their first half, unless they begin at an odd offset. */
async function startStallingPeer() {
  const held: (() => void)[] = []
  const peer = await startMember((incoming, outgoing) => {
    const start = Number(/\d+/.exec(String(incoming.headers.range))?.[0])
    const bytes = layer.bytes.subarray(start)
    outgoing.writeHead(206, {
      ...HEAD,
      'content-length': String(bytes.length),
      'content-range': `bytes ${start}-${layer.bytes.length - 1}/${layer.bytes.length}`,
    })
    if (start % 2 === 1) {
      outgoing.end(bytes)
      return
    }
    outgoing.write(bytes.subarray(0, bytes.length / 2))
    held.push(() => outgoing.end(bytes.subarray(bytes.length / 2)))
  })
  return { peer, held }
}

test('fetch does not break off a stalled body while its holder, the only one, gives to others', async () => {
  const slow = await startStallingPeer()
  await withHolders([slow.peer], async ({ peers, metrics }) => {
    const body = contentOf(await peers.fetch(request(200_000), never))
    const since = performance.now()
    let start = 1
    await waitFor('it has stood still for longer than three times what it may', async () => {
      await contentOf(await peers.fetch(request(start), never))
      start += 2
      return performance.now() - since > 3 * OPTIONS.stallTimeout
    })
    assert.equal(slow.held.length, 1)
    slow.held[0]?.()
    assert.deepEqual(await body, Buffer.from(layer.bytes.subarray(200_000)))
    assert.equal(await counted(metrics, 'transfer_resumes_total'), 0)
  })
})

test('fetch continues with another holder when a body stalls although its holder gives to others', async () => {
  const slow = await startStallingPeer()
  const good = await startGoodPeer()
  await withHolders([slow.peer, good], async ({ peers, known, metrics }) => {
    const { peer } = slow.peer
    known.of(peer).answered(1)
    const body = contentOf(await peers.fetch(request(2), never))
    await waitFor('the other one goes on', async () => {
      known.of(peer).gave()
      return (await counted(metrics, 'transfer_resumes_total')) === 1
    })
    assert.deepEqual(await body, Buffer.from(layer.bytes.subarray(2)))
    assert.equal(known.isAside(peer), false)
  })
})
