import assert from 'node:assert/strict'
import { test } from 'node:test'
import { silentLogger } from '../../../lib/observe/log.ts'
import { createCensus, type Introduction, introducer } from '../../../lib/page/census.ts'
import { swarmStatus } from '../../../lib/page/status.ts'
import type { PeerState } from '../../../lib/peers/known-peers.ts'
import { addressOf } from '../../../lib/platform/address.ts'
import type { Members } from '../../../lib/swarm/members.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import { MemorySwarm } from '../../doubles/memory-swarm.ts'
import { never } from '../../fixtures/layout.ts'
import { waitFor } from '../../fixtures/wait.ts'

const INTRODUCTION: Introduction = {
  ...{ name: 'worker-1', version: '0.1.0', runtime: 'node 24', held: 7, transfers: 1, ageMs: 60_000 },
}
const self = { host: '10.0.0.1', port: 5001 }
const other = { host: '10.0.0.2', port: 5001 }
const bytes = (text: string) => new TextEncoder().encode(text)

/** A census with one other member, which answers with `answer`. */
function censusOf(answer: () => Uint8Array | undefined) {
  const swarm = new MemorySwarm()
  const asker = swarm.join(self)
  asker.answer(introducer(() => INTRODUCTION))
  const node = swarm.join(other)
  node.answer(answer)
  const clock = new ManualClock()
  const census = createCensus({ members: asker, clock, log: silentLogger })
  const look = () => census(never).find(({ address }) => address === addressOf(other))
  return { look, clock, swarm, node }
}

test('a member introduces itself to those that ask who it is, and leaves other questions to others', async () => {
  const swarm = new MemorySwarm()
  const asker = swarm.join(self)
  const asked = swarm.join(other)
  const introduce = introducer(() => INTRODUCTION)
  asked.answer(introduce)
  const census = createCensus({ members: asker, log: silentLogger })
  const told = await waitFor(
    'its introduction',
    () => census(never).find((one) => one.address === addressOf(other))?.told,
  )
  const { ageMs: _, ...rest } = INTRODUCTION
  const { startedAt, ...heard } = told
  assert.deepEqual(heard, rest)
  assert.ok(Math.abs(Date.now() - startedAt) < 10_000)
  assert.equal(introduce(bytes('?'), self), undefined)
})

test('the census accepts only a complete introduction from a member', async () => {
  const long = { ...INTRODUCTION, name: 'x'.repeat(300) }
  const wrong = { ...INTRODUCTION, held: -1 }
  for (const answer of ['', '{', '[]', 'null', '{"name":"a"}', JSON.stringify(long), JSON.stringify(wrong)]) {
    const { look } = censusOf(() => bytes(answer))
    await waitFor('it was asked', () => look()?.isMute)
    assert.equal(look()?.told, undefined, answer)
  }
})

test('the census asks only if somebody looks, once per round, and keeps the introduction of a silent member', async () => {
  let asked = 0
  let answer: Uint8Array | undefined = bytes(JSON.stringify(INTRODUCTION))
  const { look, clock } = censusOf(() => {
    asked++
    return answer
  })
  assert.deepEqual(look(), { address: addressOf(other), isMute: false })
  await waitFor('it has told', () => look()?.told)
  assert.equal(asked, 1)
  // An answer that is no introduction counts as silence, and comes sooner.
  answer = bytes('no')
  await clock.pass(10_000)
  await waitFor('it is mute', () => look()?.isMute)
  assert.deepEqual([asked, look()?.told?.name], [2, 'worker-1'])
})

test('the census asks a bounded number at a time, ends with its signal, and drops members that have left', async () => {
  let asked = 0
  const peers = Array.from({ length: 50 }, (_, at) => ({ host: `10.0.0.${at}`, port: 5001 }))
  const members: Members = {
    size: 50,
    closest: (_, count) => peers.slice(0, count),
    ask: (_, __, signal) => {
      asked++
      return new Promise((resolve) => signal.addEventListener('abort', () => resolve(undefined), { once: true }))
    },
    answer: () => undefined,
  }
  const stop = new AbortController()
  const census = createCensus({ members, log: silentLogger }, { parallel: 4, members: 40 })
  assert.equal(census(stop.signal).length, 40)
  await waitFor('some are asked', () => asked === 4)
  stop.abort()
  peers.length = 3
  assert.equal(census(never).length, 3)
  assert.equal(asked, 4)
})

const peer = (address: string, state: Partial<PeerState> = {}): PeerState => ({
  ...{ address, isConnected: false, asideMs: 0, isBusy: false },
  ...state,
})

test('swarmStatus lists nodes with problems first, and includes peers that are no members', () => {
  const { ageMs: _, ...told } = { ...INTRODUCTION, startedAt: 1 }
  const one = (name: string, version = '2') => ({
    address: `${name}:1`,
    isMute: false,
    told: { ...told, name, version },
  })
  const counted = [one('w10'), one('w9'), one('old', '1'), { address: 'mute:1', isMute: true }, one('bad')]
  const bad = peer('bad:1', { failure: { why: 'silent', agoMs: 100 } })
  const peers = [bad, peer('gone:1', { asideMs: 5 }), peer('w9:1', { isConnected: true })]
  const status = swarmStatus({ size: 5, counted, peers }, 6)
  assert.deepEqual(
    status.nodes.map(({ address }) => address),
    ['gone:1', 'mute:1', 'bad:1', 'old:1', 'w9:1', 'w10:1'],
  )
  assert.deepEqual(status.nodes[2]?.peer, bad)
  assert.deepEqual(
    [status.size, status.connected, status.aside, status.more, status.versions],
    [
      5,
      1,
      1,
      0,
      [
        ['2', 3],
        ['1', 1],
      ],
    ],
  )
  assert.deepEqual([swarmStatus({ size: 5, counted, peers }, 2).more], [4])
})
