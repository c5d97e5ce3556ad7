/** The cost of a peer that has just died, measured by a simulated clock, so that a busy machine does not change it. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withoutFlight } from '../../lib/flight/flight.ts'
import { digestKey } from '../../lib/oci/key.ts'
import { PeerClient } from '../../lib/peers/client.ts'
import { KnownPeers } from '../../lib/peers/known-peers.ts'
import { createPeerContent, type PeerContent } from '../../lib/transfer/peer-content.ts'
import { type CountingPeer, startAbsentPeer, startRawPeer, type TestPeer } from '../doubles/http-peer.ts'
import { BLOB, contentOf, counted, image, layer, makeParts, OPTIONS, startGoodPeer } from '../doubles/http-peers.ts'
import { ManualClock } from '../doubles/manual-clock.ts'
import { MemorySwarm } from '../doubles/memory-swarm.ts'
import { never } from '../fixtures/layout.ts'
import { waitFor, within } from '../fixtures/wait.ts'

/** A node that is gone together with its machine: it never answers. */
const startVanishedPeer = () => startRawPeer((socket) => void socket.resume())

interface Setting {
  readonly clock: ManualClock
  readonly known: KnownPeers
  readonly peers: PeerContent
  readonly counted: (name: string) => Promise<number>
}

/**
 * Runs `use` with a `PeerContent` for content that two peers have announced: a dead one, which was the best until now, and
 * another one.
 */
async function withDead<P extends TestPeer>(
  startDead: () => Promise<P>,
  use: (setting: Setting, dead: P) => Promise<void>,
) {
  const clock = new ManualClock()
  const known = new KnownPeers(clock)
  const parts = { ...makeParts(), clock, known, client: new PeerClient({ headTimeout: 60_000 }) }
  const dead = await startDead()
  const good = await startGoodPeer()
  try {
    const swarm = new MemorySwarm()
    const keys = image.contents.map(({ descriptor }) => digestKey(descriptor.digest))
    for (const { peer } of [dead, good]) swarm.join(peer).advertise(keys)
    const router = swarm.join({ host: '127.0.0.1', port: 1 })
    // Like every node of a swarm, it has been known before, over HTTP and Hyperswarm.
    known.of(dead.peer).answered(1)
    known.of(dead.peer).gave()
    known.seen(dead.peer)
    const peers = createPeerContent({ ...parts, flight: withoutFlight(router) }, OPTIONS)
    await use({ clock, known, peers, counted: (name) => counted(parts.metrics, name) }, dead)
  } finally {
    parts.client.close()
    await Promise.all([dead.close(), good.close()])
  }
}

async function fetchLayer({ peers }: Setting): Promise<void> {
  const answer = await within('an answer', peers.fetch({ target: BLOB, method: 'GET' }, never))
  assert.deepEqual(await contentOf(answer), Buffer.from(layer.bytes))
}

test('fetch loses no time at all to a peer whose mirror was killed: its machine refuses', async () => {
  await withDead(startAbsentPeer, async (setting, { peer }) => {
    await fetchLayer(setting)
    assert.equal(setting.known.isAside(peer), true)
    await fetchLayer(setting)
    assert.deepEqual([setting.clock.now(), await setting.counted('hedges_total')], [0, 0])
  })
})

test('fetch loses one hedging delay to a peer that has vanished with its machine, and none the next time', async () => {
  await withDead<CountingPeer>(startVanishedPeer, async (setting, dead) => {
    const delay = setting.known.pace.hedgeDelay()
    const fetched = fetchLayer(setting)
    await waitFor('the dead one is asked', () => dead.accepted === 1)
    await setting.clock.pass(delay - 1)
    assert.equal(await setting.counted('hedges_total'), 0)
    await setting.clock.pass(1)
    await fetched
    assert.deepEqual([setting.clock.now(), await setting.counted('hedges_total')], [delay, 1])
    for (let pull = 0; pull < 5; pull++) await fetchLayer(setting)
    assert.deepEqual([setting.clock.now(), dead.accepted], [delay, 1])
  })
})

test('fetch loses nothing to a peer that Hyperswarm has reported as gone', async () => {
  await withDead<CountingPeer>(startVanishedPeer, async (setting, dead) => {
    setting.known.gone(dead.peer)
    await fetchLayer(setting)
    assert.deepEqual([setting.clock.now(), dead.accepted], [0, 0])
  })
})
