/** Who has served an image is asked for the rest of it without waiting for a lookup. */

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withoutFlight } from '../../../lib/flight/flight.ts'
import type { ManifestTarget } from '../../../lib/oci/path.ts'
import type { Router } from '../../../lib/swarm/router.ts'
import { createPeerContent } from '../../../lib/transfer/peer-content.ts'
import { startHttpPeer } from '../../doubles/http-peer.ts'
import { BLOB, contentOf, MANIFEST, makeParts, manifest, OPTIONS, startGoodPeer } from '../../doubles/http-peers.ts'
import { never } from '../../fixtures/layout.ts'
import { within } from '../../fixtures/wait.ts'

const BY_DIGEST: ManifestTarget = { ...MANIFEST, reference: { digest: manifest.descriptor.digest } }

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
    const peers = createPeerContent({ ...parts, flight: withoutFlight(router) }, { ...OPTIONS, lookupTimeout: 60_000 })
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
    const { router } = routerFor(stranger.peer, false)
    const peers = createPeerContent({ ...parts, flight: withoutFlight(router) }, OPTIONS)
    assert.equal(await peers.fetch({ target: MANIFEST, method: 'GET' }, never), undefined)
    assert.equal(stranger.accepted, 1)
    assert.deepEqual(parts.known.likely(BY_DIGEST), [])
  } finally {
    parts.client.close()
    await stranger.close()
  }
})
