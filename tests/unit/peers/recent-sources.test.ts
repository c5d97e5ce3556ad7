import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { BlobTarget, ManifestTarget } from '../../../lib/oci/path.ts'
import { RecentSources } from '../../../lib/peers/recent-sources.ts'
import type { Router } from '../../../lib/swarm/router.ts'
import { createPeerContent } from '../../../lib/transfer/peer-content.ts'
import { startHttpPeer } from '../../doubles/http-peer.ts'
import { BLOB, contentOf, MANIFEST, makeParts, manifest, OPTIONS, startGoodPeer } from '../../doubles/http-peers.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import { peerOf } from '../../doubles/peers.ts'
import { never } from '../../fixtures/layout.ts'
import { within } from '../../fixtures/wait.ts'

const OTHER: BlobTarget = { ...BLOB, repository: 'team/other' }
const BY_DIGEST: ManifestTarget = { ...MANIFEST, reference: { digest: manifest.descriptor.digest } }

test('RecentSources gives who has just served the repository, the latest first, each door once, no more than it may', () => {
  const recent = new RecentSources({ most: 2 })
  assert.deepEqual(recent.of(BLOB), [])
  const [a, b, c] = [peerOf('a'), peerOf('b'), peerOf('c')]
  for (const peer of [a, b, a]) recent.served(MANIFEST, peer)
  assert.deepEqual(recent.of(BLOB), [a, b])
  assert.deepEqual(recent.of(OTHER), [])
  recent.served(BLOB, c)
  assert.deepEqual(recent.of(BLOB), [c, a])
  const again = { ...c, id: 'e'.repeat(64) }
  recent.served(BLOB, again)
  assert.deepEqual(recent.of(BLOB), [again, a])
})

test('RecentSources forgets after its lifetime', async () => {
  const clock = new ManualClock()
  const recent = new RecentSources({ lifetime: 1_000 }, clock)
  recent.served(BLOB, peerOf('a'))
  await clock.pass(600)
  recent.served(BLOB, peerOf('b'))
  await clock.pass(600)
  assert.deepEqual(recent.of(BLOB), [peerOf('b')])
})

test('RecentSources knows nobody for a tag: what it stands for may have changed', () => {
  const recent = new RecentSources()
  recent.served(MANIFEST, peerOf('a'))
  assert.deepEqual(recent.of(MANIFEST), [])
  assert.deepEqual(recent.of(BY_DIGEST), [peerOf('a')])
})

/** A router whose lookups find the peer for the tag, and end with nothing, or never, for everything else. */
function routerFor(peer: unknown, isEndless: boolean) {
  let asked = 0
  const router = {
    async *lookup(key: string, signal: AbortSignal) {
      asked++
      if (key.includes('/')) yield peer
      else if (isEndless) await new Promise((resolve) => signal.addEventListener('abort', resolve))
    },
  } as unknown as Router
  return { router, asked: () => asked }
}

test('fetch asks who has served the image without waiting for the lookup, which runs beside', async () => {
  const served = await startGoodPeer()
  const parts = makeParts()
  try {
    const { router, asked } = routerFor(served.peer, true)
    const peers = createPeerContent(
      { ...parts, router, recent: new RecentSources() },
      { ...OPTIONS, lookupTimeout: 60_000 },
    )
    const first = await peers.fetch({ target: MANIFEST, method: 'GET' }, never)
    assert.ok(first?.kind === 'content')
    await contentOf(first)
    const second = await within('the blob', peers.fetch({ target: BLOB, method: 'GET' }, never))
    assert.ok(second?.kind === 'content')
    assert.equal((await contentOf(second)).length, second.descriptor.size)
    assert.equal(asked(), 2)
  } finally {
    parts.client.close()
    await served.close()
  }
})

test('fetch does not remember who has not proved the swarm key', async () => {
  const stranger = await startHttpPeer((_, outgoing) => outgoing.writeHead(200, { 'content-length': 0 }).end())
  const parts = makeParts()
  try {
    const recent = new RecentSources()
    const { router } = routerFor(stranger.peer, false)
    const peers = createPeerContent({ ...parts, router, recent }, OPTIONS)
    assert.equal(await peers.fetch({ target: MANIFEST, method: 'GET' }, never), undefined)
    assert.equal(stranger.accepted, 1)
    assert.deepEqual(recent.of(BY_DIGEST), [])
  } finally {
    parts.client.close()
    await stranger.close()
  }
})
