import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withoutFlight } from '../../../lib/flight/flight.ts'
import { createMetrics } from '../../../lib/observe/metrics.ts'
import { OCTET_STREAM } from '../../../lib/oci/media-type.ts'
import { KnownPeers } from '../../../lib/peers/known-peers.ts'
import type { PeerHead } from '../../../lib/transfer/ask.ts'
import { createTransferMetrics } from '../../../lib/transfer/metrics.ts'
import { createSearch } from '../../../lib/transfer/search.ts'
import { sourceOf } from '../../doubles/byte-source.ts'
import { BLOB } from '../../doubles/http-peers.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import { peerOf } from '../../doubles/peers.ts'
import { never } from '../../fixtures/layout.ts'
import { createLogRecorder } from '../../fixtures/log.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

const [A, B] = [peerOf('a'), peerOf('b')]

test('a peer that is found after the first answer is a candidate for the rest, without another lookup', async () => {
  const clock = new ManualClock()
  const found = Promise.withResolvers<void>()
  const answered = Promise.withResolvers<PeerHead>()
  let lookups = 0
  let isAsked = false
  const ask = () => {
    isAsked = true
    return answered.promise
  }
  const router = {
    async *lookup() {
      if (lookups++ > 0) return
      yield A
      await found.promise
      yield B
    },
  }
  const search = createSearch(
    {
      ...{ flight: withoutFlight(router), known: new KnownPeers(clock), ask, clock },
      ...{ metrics: createTransferMetrics(createMetrics()), log: createLogRecorder().log },
    },
    { lookupTimeout: 1_000, parallelPeers: 3 },
    BLOB,
    () => true,
  )
  const opened = search.open({ target: BLOB, method: 'GET' }, never)
  await waitFor('the first peer is asked', () => isAsked)
  // It also looks for a second peer, because the first one is slow.
  await clock.pass(100)
  const descriptor = { mediaType: OCTET_STREAM, digest: BLOB.digest, size: 1 }
  answered.resolve({ kind: 'content', descriptor, range: undefined, body: sourceOf([]) })
  assert.deepEqual((await within('the first answer', opened))?.peer, A)
  const next = search.candidate()
  found.resolve()
  assert.deepEqual(await within('the second peer', next), B)
  assert.equal(lookups, 1)
  search.close()
})
