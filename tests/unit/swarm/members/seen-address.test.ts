import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Readiness } from '../../../../lib/observe/readiness.ts'
import { createSeenAddress } from '../../../../lib/swarm/members/seen-address.ts'
import { ManualClock } from '../../../doubles/manual-clock.ts'

const SELF = { host: '10.0.0.5', port: 5001 }
const OTHER = { host: '10.0.0.9', port: 5001 }
const MEMBER = { host: '10.0.0.2', port: 5001 }
const MISPLACED =
  'others see this node at 10.0.0.9:5001, but it announces 10.0.0.5:5001 (--advertise-host): they can get nothing from it'

test('seen address: a node that all others see elsewhere is not ready, until one sees it where it announces itself', () => {
  const readiness = new Readiness()
  const seen = createSeenAddress(SELF, readiness, new ManualClock())
  seen(OTHER, MEMBER)
  assert.deepEqual(readiness.reasons, [MISPLACED])
  seen(SELF, SELF)
  assert.deepEqual(readiness.reasons, [MISPLACED], 'its own word does not count')
  seen(SELF, MEMBER)
  assert.deepEqual(readiness.reasons, [])
})

test('seen address: a member that lies makes no node unready as long as another one confirms the address', async () => {
  const [readiness, clock] = [new Readiness(), new ManualClock()]
  const seen = createSeenAddress(SELF, readiness, clock)
  for (let round = 0; round < 10; round++) {
    seen(SELF, MEMBER)
    await clock.pass(15_000)
    seen(OTHER, { host: '10.0.0.3', port: 5001 })
    assert.deepEqual(readiness.reasons, [])
  }
  await clock.pass(60_000)
  seen(OTHER, MEMBER)
  assert.deepEqual(readiness.reasons, [MISPLACED])
})
