import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger } from '../../lib/observe/log.ts'
import { parseDigest } from '../../lib/oci/digest.ts'
import { digestKey } from '../../lib/oci/key.ts'
import type { Peer, Router } from '../../lib/swarm/router.ts'
import { Candidates } from '../../lib/transfer/candidates.ts'
import { PeerHealth } from '../../lib/transfer/peer-health.ts'
import { peerOf } from '../fixtures/peers.ts'

const KEY = digestKey(parseDigest(`sha256:${'0'.repeat(64)}`))
const [A, B] = [peerOf('a'), peerOf('b')]
/** What A announced before it was started again. */
const FORMER_A = { ...A, id: 'f'.repeat(64) }

/** All that are given when a lookup finds these. */
async function givenOf(found: readonly Peer[], health = new PeerHealth()): Promise<Peer[]> {
  const lookup = async function* () {
    yield* found
  }
  const router = { lookup } as unknown as Router
  const candidates = new Candidates({ router, health, log: silentLogger }, KEY, 1_000, () => true)
  const given: Peer[] = []
  for (let peer = await candidates.next(); peer !== undefined; peer = await candidates.next()) given.push(peer)
  return given
}

test('Candidates gives each door once, under whatever ids it is found', async () => {
  assert.deepEqual(await givenOf([FORMER_A, A, B]), [FORMER_A, B])
  assert.deepEqual(await givenOf([]), [])
})

test('Candidates gives a door although the connection of its former id ended', async () => {
  const health = new PeerHealth()
  health.gone(FORMER_A.id)
  assert.deepEqual(await givenOf([FORMER_A, A], health), [A])
})

test('Candidates gives peers that are put aside last, if trying them costs nothing, and else not at all', async () => {
  const health = new PeerHealth()
  health.failed(A, 'unreachable')
  assert.deepEqual(await givenOf([A, B], health), [B, A])
  health.failed(A, 'silent')
  assert.deepEqual(await givenOf([A, B], health), [B])
})
