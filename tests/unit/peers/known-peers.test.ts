import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Digest } from '../../../lib/oci/digest.ts'
import { digestKey } from '../../../lib/oci/key.ts'
import { KnownPeers } from '../../../lib/peers/known-peers.ts'
import { addressOf } from '../../../lib/platform/address.ts'
import type { Peer } from '../../../lib/swarm/router.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import { peerOf } from '../../doubles/peers.ts'

const [A, B, C] = ['a', 'b', 'c'].map((name) => peerOf(name)) as [Peer, Peer, Peer]
const DIGEST = digestKey(`sha256:${'0'.repeat(64)}` as Digest)
const OTHER = digestKey(`sha256:${'1'.repeat(64)}` as Digest)

function make(): { known: KnownPeers; clock: ManualClock } {
  const clock = new ManualClock()
  return { known: new KnownPeers(clock), clock }
}

test('KnownPeers puts a peer aside at once when it fails, and takes it back after a growing probation', async () => {
  const { known, clock } = make()
  for (const probation of [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000]) {
    assert.equal(known.isAside(A), false)
    known.of(A).failed('silent')
    assert.equal(known.isAside(A), true)
    await clock.pass(probation - 1)
    assert.equal(known.isAside(A), true)
    await clock.pass(1)
  }
  assert.equal(known.isAside(A), false)
  known.of(A).answered(1)
  known.of(A).failed('silent')
  await clock.pass(1_000)
  assert.equal(known.isAside(A), false)
})

test('KnownPeers counts failures during a probation as one', async () => {
  const { known, clock } = make()
  for (let transfer = 0; transfer < 50; transfer++) known.of(A).failed('unreachable')
  await clock.pass(1_000)
  assert.equal(known.isAside(A), false)
})

test('KnownPeers knows which failures cost nothing to try again', () => {
  const { known } = make()
  assert.equal(known.isCheapToTry(A), false)
  known.of(A).failed('unreachable')
  assert.equal(known.isCheapToTry(A), true)
  known.of(A).failed('silent')
  assert.equal(known.isCheapToTry(A), false)
})

test('KnownPeers puts a peer aside whose Hyperswarm connection ended, known or not, until it is seen or answers', async () => {
  const { known, clock } = make()
  known.gone(A)
  assert.equal(known.isAside(A), true)
  assert.equal(known.isCheapToTry(A), false)
  known.seen(A)
  assert.equal(known.isAside(A), false)

  known.of(B).answered(1)
  known.gone(B)
  assert.equal(known.isAside(B), true)
  known.of(B).answered(1)
  assert.equal(known.isAside(B), false)

  known.gone(C)
  await clock.pass(1_000)
  assert.equal(known.isAside(C), false)
})

test('KnownPeers forgets what it held against a peer that is seen again', () => {
  const { known } = make()
  known.of(A).failed('silent')
  known.seen(A)
  assert.equal(known.isAside(A), false)
})

test('KnownPeers treats another port of the same host as another peer', () => {
  const { known } = make()
  known.of(A).failed('silent')
  assert.equal(known.isAside({ ...A, port: 5_002 }), false)
})

test('KnownPeers takes a restarted peer back at once, but not for its wrong content', () => {
  const { known } = make()
  known.of(A).answered(1)
  known.seen(A)
  known.wrongContent(A, DIGEST)
  known.gone(A)
  assert.deepEqual([known.isAside(A), known.isCheapToTry(A)], [true, false])
  known.seen(A)
  assert.deepEqual([known.isAside(A), known.isWrong(A, DIGEST)], [false, true])
  known.gone(A)
  assert.equal(known.isAside(A), true)
})

test('KnownPeers considers a silent peer busy if it answered or gave a byte a moment ago: it comes last, but may be asked', async () => {
  const signs: [string, (known: KnownPeers) => void][] = [
    ['answered', (known) => known.of(A).answered(1)],
    ['gave a byte', (known) => known.of(A).gave()],
    ['said that it is busy', (known) => known.of(A).busy(0)],
  ]
  for (const [sign, show] of signs) {
    const { known, clock } = make()
    show(known)
    await clock.pass(4_999)
    assert.equal(known.of(A).failed('silent'), true, sign)
    assert.deepEqual([known.isAside(A), known.rank([A, B])], [false, [B, A]], sign)
    await clock.pass(1)
    assert.equal(known.of(A).failed('silent'), false, sign)
    assert.equal(known.isAside(A), true, sign)
  }
})

test('KnownPeers puts a peer aside, longer each time, that sends heads and no bytes, whatever its heads', async () => {
  const { known, clock } = make()
  const asides: number[] = []
  for (let round = 0; round < 7; round++) {
    known.of(A).answered(1)
    // The request waited for it.
    await clock.pass(5_000)
    known.of(A).withheld('silent')
    const asideMs = () => known.peers()[0]?.asideMs ?? assert.fail()
    asides.push(asideMs())
    known.of(A).answered(1)
    assert.equal(known.isAside(A), true)
    await clock.pass(asideMs())
    assert.equal(known.isAside(A), false)
    assert.deepEqual(known.rank([A, B]), [B, A])
  }
  assert.deepEqual(asides, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000])
  // One byte ends all that.
  known.of(A).gave()
  known.of(A).answered(1)
  known.of(A).failed('invalid')
  assert.equal(known.peers()[0]?.asideMs, 1_000)
})

test('KnownPeers considers a peer without bytes busy after a head, or while its connection exists, but not for long', async () => {
  const signs: [string, (known: KnownPeers) => void, number][] = [
    ['heads', (known) => known.of(A).answered(1), 5_000],
    ['a connection', (known) => known.seen(A), 10_000],
  ]
  for (const [sign, show, most] of signs) {
    const { known, clock } = make()
    show(known)
    known.of(A).withheld('silent')
    assert.deepEqual([known.isAside(A), known.rank([A, B])], [false, [B, A]], sign)
    await clock.pass(most - 1)
    // A head is no sign of life any more.
    known.of(A).answered(1)
    known.of(A).withheld('silent')
    assert.equal(known.isAside(A), false, sign)
    await clock.pass(1)
    known.of(A).withheld('silent')
    assert.equal(known.isAside(A), true, sign)
  }
})

test('KnownPeers does not put a peer aside that gave others a byte a moment ago, and asks it last until a byte comes', async () => {
  const { known, clock } = make()
  known.of(A).gave()
  await clock.pass(4_999)
  known.of(A).withheld('silent')
  assert.deepEqual([known.isAside(A), known.of(A).gaveAt], [false, 0])
  await clock.pass(600_000)
  assert.deepEqual(known.rank([A, B]), [B, A])
  known.of(A).gave()
  assert.deepEqual(known.rank([B, A]), [A, B])
})

test('KnownPeers puts a peer aside at once that ends a body before its first byte', () => {
  const { known } = make()
  known.of(A).answered(1)
  known.of(A).withheld('unreachable')
  known.of(A).answered(1)
  assert.deepEqual([known.isAside(A), known.isCheapToTry(A)], [true, true])
})

test('KnownPeers takes a peer back at once if its bytes keep coming', () => {
  const { known } = make()
  known.of(A).failed('silent')
  known.of(A).gave()
  assert.equal(known.isAside(A), false)
  known.gone(A)
  known.of(A).gave()
  assert.equal(known.isAside(A), false)
  known.of(A).failed('invalid')
  known.of(A).gave()
  assert.equal(known.isAside(A), true)
})

test('KnownPeers considers a silent peer busy while its Hyperswarm connection exists, but not without any other sign of life', async () => {
  const { known, clock } = make()
  known.seen(A)
  assert.equal(known.of(A).failed('silent'), true)
  await clock.pass(9_999)
  assert.equal(known.of(A).failed('silent'), true)
  await clock.pass(1)
  assert.equal(known.of(A).failed('silent'), false)
  assert.equal(known.isAside(A), true)
  // Answers count again.
  known.of(A).answered(1)
  assert.deepEqual([known.isAside(A), known.of(A).failed('silent')], [false, true])
})

test('KnownPeers puts a silent peer aside whose Hyperswarm connection ended', () => {
  const { known } = make()
  known.seen(A)
  assert.equal(known.of(A).failed('silent'), true)
  known.gone(A)
  assert.deepEqual([known.isAside(A), known.isCheapToTry(A)], [true, false])
})

test('KnownPeers holds wrong content against a peer for that digest alone, and a suspicion for a shorter time', async () => {
  const { known, clock } = make()
  known.wrongContent(A, DIGEST)
  known.wrongContent(B, DIGEST, true)
  assert.deepEqual([known.isWrong(A, DIGEST), known.isWrong(A, OTHER), known.isAside(A)], [true, false, false])
  assert.equal(known.isWrong(B, DIGEST), true)
  await clock.pass(60_000)
  assert.equal(known.isWrong(B, DIGEST), false)
  await clock.pass(9 * 60_000)
  assert.equal(known.isWrong(A, DIGEST), false)
})

for (const [what, prepare] of [
  ['put aside', (known) => known.of(A).failed('silent')],
  ['busy', (known) => known.of(A).busy(1_000)],
  ['without proof where another one has it', (known) => [known.of(A).moved(1, 1), known.of(B).answered(1)]],
  ['without a connection where another one, never asked, has one', (known) => known.seen(B)],
  [
    'slower than another one, though its connection stands',
    (known) => [known.seen(A), known.of(A).answered(100), known.of(B).answered(10)],
  ],
  ['slower to answer', (known) => [known.of(A).answered(100), known.of(B).answered(10)]],
  ['slower to give', (known) => [known.of(A).moved(1e6, 10_000), known.of(B).moved(1e6, 10)]],
  ['not known to be alive', (known) => [known.of(B).busy(0), known.seen(B)]],
  ['outrun by others', (known) => [known.of(A).outrun(500), known.of(B).answered(1)]],
] satisfies [string, (known: KnownPeers) => unknown][]) {
  test(`KnownPeers ranks a peer last that is ${what}`, () => {
    const { known } = make()
    prepare(known)
    assert.deepEqual(known.rank([A, B]), [B, A])
    assert.deepEqual(known.rank([B, A]), [B, A])
  })
}

test('KnownPeers keeps the order of peers that do not differ', () => {
  const { known } = make()
  assert.deepEqual(known.rank([C, A, B]), [C, A, B])
  // A difference of a few percent is chance.
  for (const [peer, ms] of [
    [A, 10.4],
    [B, 10],
    [C, 10.2],
  ] as const)
    known.of(peer).answered(ms)
  assert.deepEqual(known.rank([A, C, B]), [A, C, B])
})

test('KnownPeers trusts a busy peer for ten seconds at most', async () => {
  const { known, clock } = make()
  known.of(A).busy(3_600_000)
  await clock.pass(9_999)
  assert.deepEqual(known.rank([A, B]), [B, A])
  await clock.pass(1)
  assert.deepEqual(known.rank([A, B]), [A, B])
})

test('KnownPeers learns the hedging delay from the times of heads, between its bounds', () => {
  const { known } = make()
  assert.equal(known.pace.hedgeDelay(), 50)
  for (let n = 0; n < 64; n++) known.of(A).answered(1)
  assert.equal(known.pace.hedgeDelay(), 10)
  for (let n = 0; n < 64; n++) known.of(A).answered(n < 58 ? 5 : 120)
  assert.equal(known.pace.hedgeDelay(), 120)
  for (let n = 0; n < 64; n++) known.of(B).outrun(5_000)
  assert.equal(known.pace.hedgeDelay(), 200)
})

test('KnownPeers says what rate is usual once one is known', () => {
  const { known } = make()
  assert.equal(known.pace.usual.rate, undefined)
  for (const bytes of [100, 300, 200]) known.of(A).moved(bytes, 1)
  assert.equal(known.pace.usual.rate, 200)
  known.of(B).moved(400, 1)
  assert.equal(known.pace.usual.rate, 300)
})

test('KnownPeers stays bounded whoever comes and goes, and keeps those heard from last', () => {
  const { known } = make()
  for (let n = 0; n < 6_000; n++) {
    const peer = peerOf(String(n))
    known.of(peer).failed('silent')
    known.wrongContent(peer, DIGEST)
  }
  for (const [n, isKnown] of [
    [5_999, true],
    [1_000, true],
    [999, false],
    [0, false],
  ] as const) {
    const peer = peerOf(String(n))
    assert.deepEqual([known.isAside(peer), known.isWrong(peer, DIGEST)], [isKnown, isKnown], String(n))
  }
  assert.equal(known.peers().filter(({ asideMs }) => asideMs > 0).length, 5_000)
})

test('KnownPeers rank returns every peer once, whatever happened, and bounds hold', () => {
  const event = fc.tuple(fc.nat(9), fc.nat(7), fc.nat(100_000))
  fc.assert(
    fc.property(fc.array(event), fc.uniqueArray(fc.nat(9)), (events, asked) => {
      const { known } = make()
      for (const [name, kind, value] of events) {
        const peer = peerOf(String(name))
        if (kind === 0) known.of(peer).failed('silent')
        else if (kind === 1) known.of(peer).busy(value)
        else if (kind === 2) known.of(peer).answered(value)
        else if (kind === 3) known.of(peer).outrun(value)
        else if (kind === 4) known.of(peer).moved(value + 1, value % 100)
        else if (kind === 5) known.of(peer).gave()
        else if (kind === 6) known.gone(peer)
        else known.seen(peer)
      }
      const peers = asked.map((name) => peerOf(String(name)))
      const ranked = known.rank(peers)
      assert.deepEqual(new Set(ranked), new Set(peers))
      assert.equal(ranked.length, peers.length)
      const firstAside = ranked.findIndex((peer) => known.isAside(peer))
      if (firstAside >= 0) assert.ok(ranked.slice(firstAside).every((peer) => known.isAside(peer)))
      assert.ok(known.pace.hedgeDelay() >= 10 && known.pace.hedgeDelay() <= 200)
    }),
  )
})

test('KnownPeers tells for people what it knows of other nodes', () => {
  const { known } = make()
  const [good, bad, member] = [peerOf('good'), peerOf('bad'), peerOf('member')]
  known.of(good).answered(7)
  known.of(good).moved(1_000_000, 10)
  known.of(bad).failed('invalid')
  known.of(bad).busy(500)
  known.seen(member)
  const told = new Map(known.peers().map((peer) => [peer.address, peer]))
  assert.equal(told.size, 3)
  const base = {
    isConnected: false,
    asideMs: 0,
    isBusy: false,
    failure: undefined,
    headMs: undefined,
    rate: undefined,
  }
  const address = addressOf(good)
  assert.deepEqual(told.get(address), { ...base, address, headMs: 7, rate: 100_000 })
  const aside = told.get(addressOf(bad))
  assert.deepEqual([aside?.asideMs, aside?.failure], [1_000, { why: 'invalid', agoMs: 0 }])
  assert.deepEqual(told.get(addressOf(member)), { ...base, address: addressOf(member), isConnected: true })
  known.of(member).answered(5)
  assert.equal(known.peers().length, 3)
  known.gone(member)
  assert.equal(known.peers().find((peer) => peer.address === addressOf(member))?.isConnected, false)
  // A failure is reported even when it is over.
  known.seen(member)
  const again = known.peers().find((peer) => peer.address === addressOf(member))
  assert.deepEqual([again?.isConnected, again?.asideMs, again?.failure], [true, 0, { why: 'silent', agoMs: 0 }])
})
