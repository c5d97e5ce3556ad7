import assert from 'node:assert/strict'
import { test } from 'node:test'
import { withoutFlight } from '../../../lib/flight/flight.ts'
import { createMetrics } from '../../../lib/observe/metrics.ts'
import { digestKey } from '../../../lib/oci/key.ts'
import { KnownPeers } from '../../../lib/peers/known-peers.ts'
import type { Peer, Router } from '../../../lib/swarm/router.ts'
import { candidatesFor } from '../../../lib/transfer/candidates.ts'
import { createTransferMetrics } from '../../../lib/transfer/metrics.ts'
import { BLOB, counted } from '../../doubles/http-peers.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import { peerOf } from '../../doubles/peers.ts'
import { createLogRecorder } from '../../fixtures/log.ts'
import { within } from '../../fixtures/wait.ts'

const [A, B, C] = ['a', 'b', 'c'].map((name) => peerOf(name)) as [Peer, Peer, Peer]

/** Candidates of a lookup whose results the test gives, until it ends the lookup. */
function make(first: readonly Peer[] = [], suits: (peer: Peer) => boolean = () => true) {
  const clock = new ManualClock()
  const known = new KnownPeers(clock)
  const { log, lines } = createLogRecorder()
  const metrics = createMetrics()
  let more = Promise.withResolvers<readonly Peer[] | Error | undefined>()
  let aborted: AbortSignal | undefined
  const router = {
    async *lookup(_: unknown, signal: AbortSignal) {
      aborted = signal
      yield* first
      for (;;) {
        const found = await more.promise
        if (found instanceof Error) throw found
        if (found === undefined) return
        more = Promise.withResolvers()
        yield* found
      }
    },
  } as unknown as Router
  const key = digestKey(BLOB.digest)
  const lookup = (signal: AbortSignal) => withoutFlight(router).sources(key, signal)
  const dependencies = { known, log, metrics: createTransferMetrics(metrics), clock }
  const candidates = candidatesFor(key, dependencies, lookup, 100, suits)
  const find = (...peers: Peer[]) => more.resolve(peers)
  const finish = (error?: Error) => more.resolve(error)
  return { clock, known, candidates, find, finish, metrics, lines, isStopped: () => aborted?.aborted }
}

test('Candidates returns the best of the peers found together first, each once', async () => {
  const { candidates, known, finish } = make([A, B, C])
  known.of(C).answered(1)
  known.of(A).busy(1_000)
  finish()
  const given = [await candidates.next(), await candidates.next(), await candidates.next(), await candidates.next()]
  assert.deepEqual(given, [C, B, A, undefined])
})

test('Candidates waits for a peer that is found later, and returns nothing when the lookup ends', async () => {
  const { candidates, find, finish } = make()
  const next = candidates.next()
  find(A)
  assert.deepEqual(await within('a peer', next), A)
  const none = candidates.next()
  finish()
  assert.equal(await within('the end', none), undefined)
})

test('Candidates returns peers that are put aside last, and only those that fail fast', async () => {
  const { candidates, known, find, finish } = make([A, B])
  known.of(A).failed('unreachable')
  known.of(B).failed('silent')
  const next = candidates.next()
  find(C)
  assert.deepEqual(await within('a peer', next), C)
  finish()
  assert.deepEqual(await within('a peer', candidates.next()), A)
  assert.equal(await within('the end', candidates.next()), undefined)
})

test('Candidates skips a peer that does not suit when its turn comes', async () => {
  const refused = new Set<Peer>()
  const { candidates, finish } = make([A, B], (peer) => !refused.has(peer))
  finish()
  assert.deepEqual(await candidates.next(), A)
  refused.add(B)
  assert.equal(await candidates.next(), undefined)
})

test('Candidates ends the lookup after its time and when it is stopped, and keeps what was found', async () => {
  const late = make([A])
  await late.clock.pass(100)
  assert.equal(late.isStopped(), true)
  assert.deepEqual(await within('a peer', late.candidates.next()), A)
  assert.equal(await within('the end', late.candidates.next()), undefined)

  const stopped = make([A])
  await stopped.clock.pass(0)
  stopped.candidates.stop()
  assert.equal(stopped.isStopped(), true)
  assert.deepEqual(await within('a peer', stopped.candidates.next()), A)
  await stopped.clock.pass(0)
  assert.equal(stopped.clock.pending, 0)
})

test('Candidates tells how long the first peer took to find, or that there was none', async () => {
  const told = ({ metrics }: ReturnType<typeof make>, wasFound: boolean) =>
    Promise.all(['lookups_total', 'lookup_seconds_sum'].map((name) => counted(metrics, name, `found="${wasFound}"`)))
  const found = make()
  await found.clock.pass(7)
  found.find(A)
  await found.clock.pass(1)
  found.find(B)
  await found.clock.pass(100)
  assert.deepEqual(await told(found, true), [1, 0.007])
  assert.deepEqual(await told(found, false), [0, 0])

  const none = make()
  await none.clock.pass(100)
  assert.deepEqual(await told(none, true), [0, 0])
  assert.deepEqual(await told(none, false), [1, 0.1])
})

test('Candidates logs a lookup that fails, and goes on with what it found', async () => {
  const { candidates, finish, lines } = make([A])
  finish(new Error('the swarm is gone'))
  assert.deepEqual(await within('a peer', candidates.next()), A)
  assert.equal(await within('the end', candidates.next()), undefined)
  assert.deepEqual(
    lines.map(({ level, event }) => [level, event]),
    [['warn', 'lookup failed']],
  )
})
