import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PeerHealth } from '../../../lib/peers/health.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import { peerOf } from '../../doubles/peers.ts'

test('PeerHealth tells for people what it knows of other nodes', () => {
  const clock = new ManualClock()
  const health = new PeerHealth({ probation: 1_000 }, clock)
  const [good, bad, member] = [peerOf('good'), peerOf('bad'), peerOf('member')]
  const address = ({ host, port }: typeof good) => `${host}:${port}`
  health.answered(good, 7)
  health.moved(good, 1_000_000, 10)
  health.failed(bad, 'invalid')
  health.busy(bad, 500)
  health.seen(member)
  assert.equal(health.connected, 1)
  const told = new Map(health.peers().map((peer) => [peer.address, peer]))
  assert.equal(told.size, 3)
  const base = {
    isConnected: false,
    asideMs: 0,
    isBusy: false,
    lastFailure: undefined,
    headMs: undefined,
    rate: undefined,
  }
  assert.deepEqual(told.get(address(good)), { ...base, address: address(good), headMs: 7, rate: 100_000 })
  const aside = told.get(address(bad))
  assert.deepEqual([aside?.asideMs, aside?.lastFailure, aside?.isBusy], [1_000, 'invalid', true])
  assert.deepEqual(told.get(address(member)), { ...base, address: address(member), isConnected: true })
  health.answered(member, 5)
  assert.equal(health.peers().length, 3)
  health.gone(member)
  assert.equal(health.connected, 0)
})
