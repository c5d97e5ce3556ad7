import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Digest } from '../../../lib/oci/digest.ts'
import { PeerHealth, type PeerHealthOptions } from '../../../lib/peers/health.ts'
import type { Peer } from '../../../lib/swarm/router.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import { peerOf } from '../../doubles/peers.ts'

const [A, B, C] = ['a', 'b', 'c'].map((name) => peerOf(name)) as [Peer, Peer, Peer]
const DIGEST = `sha256:${'0'.repeat(64)}` as Digest
const OTHER = `sha256:${'1'.repeat(64)}` as Digest

function make(options: PeerHealthOptions = {}): { health: PeerHealth; clock: ManualClock } {
  const clock = new ManualClock()
  return { health: new PeerHealth(options, clock), clock }
}

test('PeerHealth puts a peer aside at once when it fails, and takes it back after a probation that grows', async () => {
  const { health, clock } = make({ probation: 1_000, longestProbation: 5_000 })
  for (const probation of [1_000, 2_000, 4_000, 5_000, 5_000]) {
    assert.equal(health.isAside(A), false)
    health.failed(A, 'silent')
    assert.equal(health.aside, 1)
    await clock.pass(probation - 1)
    assert.equal(health.isAside(A), true)
    await clock.pass(1)
  }
  assert.equal(health.isAside(A), false)
  health.answered(A, 1)
  health.failed(A, 'silent')
  await clock.pass(1_000)
  assert.equal(health.isAside(A), false)
})

test('PeerHealth counts failures during a probation as one', async () => {
  const { health, clock } = make({ probation: 1_000 })
  for (let transfer = 0; transfer < 50; transfer++) health.failed(A, 'unreachable')
  await clock.pass(1_000)
  assert.equal(health.isAside(A), false)
})

test('PeerHealth knows which failures cost nothing to try again', () => {
  const { health } = make()
  assert.equal(health.isCheapToTry(A), false)
  health.failed(A, 'unreachable')
  assert.equal(health.isCheapToTry(A), true)
  health.failed(A, 'silent')
  assert.equal(health.isCheapToTry(A), false)
})

test('PeerHealth puts a peer aside whose Hyperswarm connection ended, known or not, until it is seen or answers', async () => {
  const { health, clock } = make({ probation: 1_000 })
  health.gone(A)
  assert.equal(health.isAside(A), true)
  assert.equal(health.isCheapToTry(A), false)
  health.seen(A)
  assert.equal(health.isAside(A), false)

  health.answered(B, 1)
  health.gone(B)
  assert.equal(health.isAside(B), true)
  health.answered(B, 1)
  assert.equal(health.isAside(B), false)

  health.gone(C)
  await clock.pass(1_000)
  assert.equal(health.isAside(C), false)
})

test('PeerHealth forgets what it held against a peer that is seen again', () => {
  const { health } = make()
  health.failed(A, 'silent')
  health.seen(A)
  assert.equal(health.isAside(A), false)
})

test('PeerHealth takes another port of the same host for another peer', () => {
  const { health } = make()
  health.failed(A, 'silent')
  assert.equal(health.isAside({ ...A, port: 5_002 }), false)
})

test('PeerHealth takes a peer back at once that was started again, but not what it gave that was wrong', () => {
  const { health } = make()
  health.answered(A, 1)
  health.seen(A)
  health.wrongContent(A, DIGEST)
  health.gone(A)
  assert.deepEqual([health.isAside(A), health.isCheapToTry(A)], [true, false])
  health.seen(A)
  assert.deepEqual([health.isAside(A), health.isWrong(A, DIGEST)], [false, true])
  health.gone(A)
  assert.equal(health.isAside(A), true)
})

test('PeerHealth takes a silent peer for busy that answered or gave a byte a moment ago: it comes last, but it may be asked', async () => {
  const signs: [string, (health: PeerHealth) => void][] = [
    ['answered', (health) => health.answered(A, 1)],
    ['gave a byte', (health) => health.gave(A)],
    ['said that it is busy', (health) => health.busy(A, 0)],
  ]
  for (const [sign, show] of signs) {
    const { health, clock } = make()
    health.proven(A)
    show(health)
    await clock.pass(4_999)
    assert.equal(health.failed(A, 'silent'), true, sign)
    assert.deepEqual([health.isAside(A), health.rank([A, B])], [false, [B, A]], sign)
    await clock.pass(1)
    assert.equal(health.failed(A, 'silent'), false, sign)
    assert.equal(health.isAside(A), true, sign)
  }
})

test('PeerHealth puts a peer aside, longer each time, that gives heads and no bytes, whatever heads it gives', async () => {
  const { health, clock } = make()
  const asides: number[] = []
  for (let round = 0; round < 7; round++) {
    health.answered(A, 1)
    // It was waited for.
    await clock.pass(5_000)
    health.withheld(A, 'silent')
    const asideMs = () => health.peers()[0]?.asideMs ?? assert.fail()
    asides.push(asideMs())
    health.answered(A, 1)
    assert.equal(health.isAside(A), true)
    await clock.pass(asideMs())
    assert.equal(health.isAside(A), false)
    assert.deepEqual(health.rank([A, B]), [B, A])
  }
  assert.deepEqual(asides, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000])
  // A byte makes up for all of it.
  health.gave(A)
  health.answered(A, 1)
  health.failed(A, 'invalid')
  assert.equal(health.peers()[0]?.asideMs, 1_000)
})

test('PeerHealth takes a peer without bytes for busy while it gives heads, or its connection stands, but not for long', async () => {
  const signs: [string, (health: PeerHealth) => void, (health: PeerHealth) => void][] = [
    ['heads', (health) => health.answered(A, 1), (health) => health.answered(A, 1)],
    ['a connection', (health) => health.seen(A), () => undefined],
  ]
  for (const [sign, show, showAgain] of signs) {
    const { health, clock } = make()
    show(health)
    health.withheld(A, 'silent')
    assert.deepEqual([health.isAside(A), health.rank([A, B])], [false, [B, A]], sign)
    await clock.pass(9_999)
    showAgain(health)
    health.withheld(A, 'silent')
    assert.equal(health.isAside(A), false, sign)
    await clock.pass(1)
    health.withheld(A, 'silent')
    assert.equal(health.isAside(A), true, sign)
  }
})

test('PeerHealth does not put a peer aside that gave others a byte a moment ago, and forgets in time that it withheld some', async () => {
  const { health, clock } = make()
  health.answered(A, 1)
  health.gave(A)
  await clock.pass(4_999)
  health.withheld(A, 'silent')
  assert.deepEqual([health.isAside(A), health.isGivingSince(A, -1), health.isGivingSince(A, 0)], [false, true, false])
  health.proven(A)
  await clock.pass(59_999)
  assert.deepEqual(health.rank([A, B]), [B, A])
  await clock.pass(1)
  assert.deepEqual(health.rank([B, A]), [A, B])
})

test('PeerHealth puts a peer aside at once that ends a body before its first byte', () => {
  const { health } = make()
  health.answered(A, 1)
  health.withheld(A, 'unreachable')
  health.answered(A, 1)
  assert.deepEqual([health.isAside(A), health.isCheapToTry(A)], [true, true])
})

test('PeerHealth takes a peer back at once whose bytes go on to come', () => {
  const { health } = make()
  health.failed(A, 'silent')
  health.gave(A)
  assert.equal(health.isAside(A), false)
  health.gone(A)
  health.gave(A)
  assert.equal(health.isAside(A), false)
  health.failed(A, 'invalid')
  health.gave(A)
  assert.equal(health.isAside(A), true)
})

test('PeerHealth takes a silent peer for busy while its Hyperswarm connection stands, but not if nothing else is heard of it', async () => {
  const { health, clock } = make()
  health.seen(A)
  assert.equal(health.failed(A, 'silent'), true)
  await clock.pass(9_999)
  assert.equal(health.failed(A, 'silent'), true)
  await clock.pass(1)
  assert.equal(health.failed(A, 'silent'), false)
  assert.equal(health.isAside(A), true)
  // Answers count again.
  health.answered(A, 1)
  assert.deepEqual([health.isAside(A), health.failed(A, 'silent')], [false, true])
})

test('PeerHealth puts a silent peer aside whose Hyperswarm connection ended', () => {
  const { health } = make()
  health.seen(A)
  assert.equal(health.failed(A, 'silent'), true)
  health.gone(A)
  assert.deepEqual([health.isAside(A), health.isCheapToTry(A)], [true, false])
})

test('PeerHealth holds wrong content against a peer for that digest alone, and a suspicion for a shorter time', async () => {
  const { health, clock } = make()
  health.wrongContent(A, DIGEST)
  health.wrongContent(B, DIGEST, true)
  assert.deepEqual([health.isWrong(A, DIGEST), health.isWrong(A, OTHER), health.isAside(A)], [true, false, false])
  assert.equal(health.isWrong(B, DIGEST), true)
  await clock.pass(60_000)
  assert.equal(health.isWrong(B, DIGEST), false)
  await clock.pass(9 * 60_000)
  assert.equal(health.isWrong(A, DIGEST), false)
})

for (const [what, prepare] of [
  ['put aside', (health) => health.failed(A, 'silent')],
  ['busy', (health) => health.busy(A, 1_000)],
  ['without proof where another one has it', (health) => health.proven(B)],
  ['without a connection where another one, never asked, has one', (health) => health.seen(B)],
  [
    'without a connection, and fast, where another one has one',
    (health) => [health.answered(A, 1), health.answered(B, 100), health.seen(B)],
  ],
  [
    'slower than another one, though its connection stands',
    (health) => [health.seen(A), health.answered(A, 100), health.answered(B, 10), health.proven(B)],
  ],
  ['slower to answer', (health) => [health.answered(A, 100), health.answered(B, 10)]],
  ['slower to give', (health) => [health.moved(A, 1e6, 10_000), health.moved(B, 1e6, 10)]],
  ['not known to be alive', (health) => [health.busy(B, 0), health.seen(B)]],
  ['outrun by others', (health) => [health.outrun(A, 500), health.answered(B, 1)]],
] satisfies [string, (health: PeerHealth) => unknown][]) {
  test(`PeerHealth ranks a peer last that is ${what}`, () => {
    const { health } = make()
    prepare(health)
    assert.deepEqual(health.rank([A, B]), [B, A])
    assert.deepEqual(health.rank([B, A]), [B, A])
  })
}

test('PeerHealth leaves peers between which nothing stands in their order', () => {
  const { health } = make()
  assert.deepEqual(health.rank([C, A, B]), [C, A, B])
  // A difference of a few percent is chance.
  for (const [peer, ms] of [
    [A, 10.4],
    [B, 10],
    [C, 10.2],
  ] as const)
    health.answered(peer, ms)
  assert.deepEqual(health.rank([A, C, B]), [A, C, B])
})

test('PeerHealth takes a busy peer at its word for ten seconds at most', async () => {
  const { health, clock } = make()
  health.busy(A, 3_600_000)
  await clock.pass(9_999)
  assert.deepEqual(health.rank([A, B]), [B, A])
  await clock.pass(1)
  assert.deepEqual(health.rank([A, B]), [A, B])
})

test('PeerHealth learns the hedging delay from what heads took, between its bounds', () => {
  const { health } = make({ hedge: { least: 20, most: 300 } })
  assert.equal(health.hedgeDelay(), 50)
  for (let n = 0; n < 64; n++) health.answered(A, 1)
  assert.equal(health.hedgeDelay(), 20)
  for (let n = 0; n < 64; n++) health.answered(A, n < 58 ? 5 : 120)
  assert.equal(health.hedgeDelay(), 120)
  for (let n = 0; n < 64; n++) health.outrun(B, 5_000)
  assert.equal(health.hedgeDelay(), 300)
})

test('PeerHealth says what rate is usual once there is something to compare', () => {
  const { health } = make()
  for (const bytes of [100, 300, 200]) health.moved(A, bytes, 1)
  assert.equal(health.usualRate(), undefined)
  health.moved(B, 400, 1)
  assert.equal(health.usualRate(), 300)
})

test('PeerHealth stays bounded whoever comes and goes, and keeps who was heard of last', () => {
  const { health } = make({ capacity: 10 })
  for (let n = 0; n < 1_000; n++) {
    const peer = peerOf(String(n))
    health.failed(peer, 'silent')
    health.gone(peerOf(`gone ${n}`))
    health.wrongContent(peer, DIGEST)
  }
  assert.equal(health.aside, 10)
  assert.equal(health.isAside(peerOf('999')), true)
  assert.equal(health.isAside(peerOf('989')), false)
  assert.equal(health.isAside(peerOf('gone 989')), false)
  assert.equal(health.isAside(peerOf('gone 999')), true)
  assert.equal(health.isWrong(peerOf('989'), DIGEST), false)
  assert.equal(health.isWrong(peerOf('999'), DIGEST), true)
})

test('PeerHealth rank gives every peer once, whatever happened, and bounds hold', () => {
  const event = fc.tuple(fc.nat(9), fc.nat(7), fc.nat(100_000))
  fc.assert(
    fc.property(fc.array(event), fc.uniqueArray(fc.nat(9)), (events, asked) => {
      const { health } = make()
      for (const [name, kind, value] of events) {
        const peer = peerOf(String(name))
        if (kind === 0) health.failed(peer, 'silent')
        else if (kind === 1) health.busy(peer, value)
        else if (kind === 2) health.answered(peer, value)
        else if (kind === 3) health.outrun(peer, value)
        else if (kind === 4) health.moved(peer, value, value % 100)
        else if (kind === 5) health.proven(peer)
        else if (kind === 6) health.gone(peer)
        else health.seen(peer)
      }
      const peers = asked.map((name) => peerOf(String(name)))
      const ranked = health.rank(peers)
      assert.deepEqual(new Set(ranked), new Set(peers))
      assert.equal(ranked.length, peers.length)
      const firstAside = ranked.findIndex((peer) => health.isAside(peer))
      if (firstAside >= 0) assert.ok(ranked.slice(firstAside).every((peer) => health.isAside(peer)))
      assert.ok(health.hedgeDelay() >= 10 && health.hedgeDelay() <= 200)
    }),
  )
})
