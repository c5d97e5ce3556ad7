import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createMetrics } from '../../../lib/observe/metrics.ts'
import type { KnownPeers } from '../../../lib/peers/known-peers.ts'
import type { Peer } from '../../../lib/swarm/router.ts'
import { createTransferMetrics } from '../../../lib/transfer/metrics.ts'
import { type RaceDependencies, type RaceOptions, race, type Winner } from '../../../lib/transfer/race.ts'
import { counted } from '../../doubles/http-peers.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import { peerOf } from '../../doubles/peers.ts'
import { within } from '../../fixtures/wait.ts'

interface Asked {
  readonly peer: Peer
  readonly at: number
  readonly signal: AbortSignal
  answer(value: string | undefined): void
  fail(error: unknown): void
}

/** A race in which the test plays the peers, by their names. */
function start(
  names: readonly string[],
  {
    next,
    parallelPeers = 3,
    patience = 1_000_000,
    raceTimeout = 1_000,
    longestRace = raceTimeout,
    hedgeDelay = () => 50,
    isWorthWaiting = () => true,
    mayAnswer = () => true,
  }: Partial<RaceOptions & Pick<RaceDependencies<string>, 'next' | 'isWorthWaiting'>> & {
    readonly hedgeDelay?: () => number
    readonly mayAnswer?: (peer: Peer) => boolean
  } = {},
  stop = new AbortController(),
) {
  const clock = new ManualClock()
  const left = names.map((name) => peerOf(name))
  const asked: Asked[] = []
  const released: string[] = []
  const outrun: [Peer, number][] = []
  const registry = createMetrics()
  const known = {
    pace: { hedgeDelay },
    of: (peer: Peer) => ({ mayAnswer: mayAnswer(peer), outrun: (ms: number) => outrun.push([peer, ms]) }),
  } as unknown as KnownPeers
  const result: Promise<Winner<string> | undefined> = race<string>(
    {
      next: next ?? (async () => left.shift()),
      ask: (peer, signal) =>
        new Promise((resolve, reject) => {
          asked.push({ peer, at: clock.now(), signal, answer: resolve, fail: reject })
        }),
      release: (value) => released.push(value),
      ...{ isWorthWaiting, known, metrics: createTransferMetrics(registry), clock },
    },
    { parallelPeers, patience, raceTimeout, longestRace },
    stop.signal,
  )
  result.catch(() => undefined)
  const times = () => asked.map(({ at }) => at)
  const get = (index: number) => asked[index] ?? assert.fail(`peer ${index} was not asked`)
  const hedges = () => counted(registry, 'hedges_total')
  return { clock, asked, released, outrun, hedges, stop, result, times, get }
}

test('race asks the best peer at once and returns its answer', async () => {
  const { clock, get, result, asked } = start(['a', 'b'])
  await clock.pass(0)
  get(0).answer('from a')
  assert.deepEqual(await result, { peer: peerOf('a'), value: 'from a' })
  await clock.pass(5_000)
  assert.equal(asked.length, 1)
  assert.equal(clock.pending, 0)
})

test('race asks one more peer after each hedging delay, up to a bound', async () => {
  const { clock, times, hedges, get, result, outrun, asked } = start(['a', 'b', 'c', 'd'], { parallelPeers: 3 })
  await clock.pass(500)
  assert.deepEqual(times(), [0, 50, 100])
  assert.deepEqual(
    asked.map(({ peer }) => peer),
    [peerOf('a'), peerOf('b'), peerOf('c')],
  )
  assert.equal(await hedges(), 2)
  get(1).answer('from b')
  assert.deepEqual((await result)?.value, 'from b')
  assert.deepEqual(
    asked.map(({ signal }) => signal.aborted),
    [true, false, true],
  )
  assert.deepEqual(outrun, [
    [peerOf('a'), 500],
    [peerOf('c'), 400],
  ])
  assert.equal(clock.pending, 0)
})

test('race looks up the hedging delay each time', async () => {
  const delays = [10, 200]
  const { clock, times } = start(['a', 'b', 'c'], { hedgeDelay: () => delays.shift() ?? 1_000 })
  await clock.pass(300)
  assert.deepEqual(times(), [0, 10, 210])
})

test('race asks the next peer at once when one lacks the content or fails, and no hedge comes too early after that', async () => {
  const { clock, times, get, hedges } = start(['a', 'b', 'c'])
  await clock.pass(40)
  get(0).answer(undefined)
  await clock.pass(49)
  assert.deepEqual(times(), [0, 40])
  await clock.pass(1)
  assert.deepEqual(times(), [0, 40, 90])
  assert.equal(await hedges(), 1)
})

test('race replaces a failed peer while it asks as many as it may', async () => {
  const { clock, times, get } = start(['a', 'b', 'c'], { parallelPeers: 2 })
  await clock.pass(200)
  assert.deepEqual(times(), [0, 50])
  get(0).answer(undefined)
  await clock.pass(0)
  assert.deepEqual(times(), [0, 50, 200])
})

test('race returns nothing when there is nobody, and when all have failed', async () => {
  const nobody = start([])
  assert.equal(await within('the end', nobody.result), undefined)
  assert.equal(nobody.clock.pending, 0)

  const { clock, get, result } = start(['a', 'b'])
  await clock.pass(60)
  get(0).answer(undefined)
  await clock.pass(0)
  get(1).answer(undefined)
  assert.equal(await within('the end', result), undefined)
  assert.equal(clock.pending, 0)
})

test('race returns nothing at the deadline, and stops the asked peers', async () => {
  const { clock, asked, result, outrun } = start(['a', 'b'], { raceTimeout: 1_000 })
  await clock.pass(1_000)
  assert.equal(await within('the end', result), undefined)
  assert.ok(asked.every(({ signal }) => signal.aborted))
  assert.deepEqual(outrun.at(0), [peerOf('a'), 1_000])
  assert.equal(clock.pending, 0)
})

test('race stops a peer that is late and not worth waiting for, and asks the next one in its place', async () => {
  const late = { patience: 300, isWorthWaiting: () => false }
  const { clock, times, get, result, asked } = start(['a', 'b', 'c'], { parallelPeers: 2, ...late })
  await clock.pass(299)
  assert.deepEqual(times(), [0, 50])
  await clock.pass(1)
  assert.deepEqual(times(), [0, 50, 300])
  assert.equal(get(0).signal.aborted, true)
  // Nobody needs to know that its call ends with an error.
  get(0).fail(new Error('cancelled'))
  get(1).answer('from b')
  assert.equal((await result)?.value, 'from b')
  assert.equal(asked.length, 3)
  assert.equal(clock.pending, 0)
})

test('race is over at once when the last peer is late and not worth waiting for', async () => {
  const { clock, result, outrun } = start(['a'], { patience: 300, isWorthWaiting: () => false })
  await clock.pass(300)
  assert.equal(await within('the end', result), undefined)
  assert.deepEqual([clock.now(), clock.pending, outrun], [300, 0, []])
})

test('race accepts the answer of a late peer that is worth waiting for, until the deadline', async () => {
  const late = { patience: 300 }
  const first = start(['a'], late)
  await first.clock.pass(999)
  first.get(0).answer('from a')
  assert.equal((await within('the answer', first.result))?.value, 'from a')
  assert.equal(first.clock.pending, 0)

  const second = start(['a'], late)
  await second.clock.pass(1_000)
  assert.equal(await within('the end', second.result), undefined)
  assert.equal(second.get(0).signal.aborted, true)
})

test('race asks another peer in place of a late one that it waits for, and the first answer of all wins', async () => {
  const late = { patience: 300 }
  const { clock, times, get, result } = start(['a', 'b'], { parallelPeers: 1, ...late })
  await clock.pass(300)
  assert.deepEqual(times(), [0, 300])
  get(1).answer(undefined)
  await clock.pass(100)
  get(0).answer('from a')
  assert.equal((await within('the answer', result))?.value, 'from a')
})

test('race releases the answer of a peer that was stopped for being late', async () => {
  const late = { patience: 300, isWorthWaiting: () => false }
  const { clock, get, released, result } = start(['a', 'b'], late)
  await clock.pass(310)
  get(0).answer('from a')
  await clock.pass(0)
  assert.deepEqual(released, ['from a'])
  get(1).answer('from b')
  assert.equal((await within('the answer', result))?.value, 'from b')
})

test('race releases an answer that comes after another one', async () => {
  const { clock, get, result, released } = start(['a', 'b'])
  await clock.pass(50)
  get(0).answer('from a')
  get(1).answer('from b')
  assert.equal((await result)?.value, 'from a')
  await clock.pass(0)
  assert.deepEqual(released, ['from b'])
})

test("race throws an error that is not a peer's fault, and stops the others", async () => {
  const { clock, get, result } = start(['a', 'b'])
  await clock.pass(50)
  get(0).fail(new Error('a mistake of ours'))
  await assert.rejects(within('the end', result), /a mistake of ours/)
  assert.ok(get(1).signal.aborted)
  assert.equal(clock.pending, 0)
})

test('race ends with its signal, even before it begins', async () => {
  const { clock, get, result, stop, released, outrun } = start(['a'])
  await clock.pass(10)
  stop.abort(new Error('the client left'))
  await assert.rejects(within('the end', result), /the client left/)
  assert.ok(get(0).signal.aborted)
  get(0).answer('late')
  await clock.pass(0)
  assert.deepEqual([released, outrun, clock.pending], [['late'], [], 0])

  const gone = new AbortController()
  gone.abort(new Error('gone'))
  const late = start([], { next: () => assert.fail('nobody is to be found') }, gone)
  await assert.rejects(late.result, /gone/)
  assert.equal(late.clock.pending, 0)
})

test('race does not ask peers that are found after its end', async () => {
  const found = Promise.withResolvers<Peer | undefined>()
  const { clock, result, asked } = start([], { next: () => found.promise, raceTimeout: 100 })
  await clock.pass(100)
  assert.equal(await within('the end', result), undefined)
  found.resolve(peerOf('late'))
  await clock.pass(0)
  assert.equal(asked.length, 0)
})

test('race goes on after the deadline as long as an asked peer shows that it works', async () => {
  let works = true
  const mayAnswer = ({ host }: Peer) => works && host === peerOf('b').host
  const { clock, get, result, outrun } = start(['a', 'b'], { longestRace: 10_000, mayAnswer })
  await clock.pass(1_000)
  await clock.pass(499)
  works = false
  assert.equal(get(1).signal.aborted, false)
  await clock.pass(1)
  assert.equal(await within('the end', result), undefined)
  assert.deepEqual(outrun, [
    [peerOf('a'), 1_500],
    [peerOf('b'), 1_450],
  ])
  assert.equal(clock.pending, 0)
})

test('race accepts an answer that comes after the deadline', async () => {
  const { clock, get, result } = start(['a'], { longestRace: 10_000 })
  await clock.pass(1_100)
  get(0).answer('late')
  assert.equal((await within('the end', result))?.value, 'late')
  assert.equal(clock.pending, 0)
})

test('race does not go on after the deadline for longer than it may, nor for one that has been stopped', async () => {
  const long = start(['a'], { longestRace: 2_200 })
  await long.clock.pass(1_999)
  assert.equal(long.get(0).signal.aborted, false)
  await long.clock.pass(1)
  assert.equal(await within('the end', long.result), undefined)
  const stopped = start(['a'], { patience: 500, isWorthWaiting: () => false, longestRace: 2_200 })
  await stopped.clock.pass(500)
  assert.equal(await within('the end', stopped.result), undefined)
})
