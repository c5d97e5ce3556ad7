import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { PeerError } from '../../../lib/peers/error.ts'
import { ResumingSource, type WatchedBody } from '../../../lib/transfer/resume.ts'
import { Watchdog } from '../../../lib/transfer/watchdog.ts'
import { TestSource } from '../../doubles/byte-source.ts'
import { read } from '../../doubles/http-peers.ts'
import { peerOf } from '../../doubles/peers.ts'
import { inTime, waitFor, within } from '../../fixtures/wait.ts'

const CONTENT = new Uint8Array(10_000).map((_, index) => index % 251)

/** What a peer does: gives chunks of so many bytes, and then an end, more, or a failure of that kind. */
interface Script {
  readonly chunks: readonly number[]
  readonly last: 'ends' | 'breaks' | 'overflows'
  readonly slow?: boolean
}

function bodyOf(name: string, script: Script, offset: number) {
  let at = offset
  const left = [...script.chunks]
  let cancelled = false
  const body = {
    async next() {
      const length = left.shift()
      if (length === undefined && script.last === 'breaks') throw new PeerError('the connection broke')
      if (length === undefined && script.last === 'ends') return undefined
      if (length === undefined) return new Uint8Array(CONTENT.length + 1)
      const chunk = CONTENT.subarray(at, at + length)
      at += chunk.length
      return chunk.length === 0 ? undefined : chunk
    },
    async cancel() {
      cancelled = true
    },
  }
  const watchdog = new Watchdog(body, { stallTimeout: 60_000 }, () => undefined)
  if (script.slow) Object.defineProperty(watchdog, 'slowWindows', { value: 1 })
  const watched: WatchedBody = { peer: peerOf(name), body, watchdog }
  return { watched, isCancelled: () => cancelled }
}

/** A source over peers that do as their scripts say, in that order. */
function make(scripts: readonly Script[], start = 0, end = CONTENT.length) {
  const events: string[] = []
  const bodies: ReturnType<typeof bodyOf>[] = []
  const open = (offset: number) => {
    const script = scripts[bodies.length]
    if (script === undefined) return undefined
    const opened = bodyOf(String(bodies.length), script, offset)
    bodies.push(opened)
    return opened.watched
  }
  const source = new ResumingSource(
    {
      reopen: async (offset) => open(offset),
      isOnlySlow: () => false,
      onBreak: (_, error, offset) => events.push(`break at ${offset}: ${error.message}`),
      onSlow: (_, offset) => events.push(`slow at ${offset}`),
      onResume: (_, offset) => events.push(`on at ${offset}`),
      onDone: () => events.push('done'),
    },
    open(start),
    start,
    end,
  )
  return { source, events, bodies }
}

test('ResumingSource gives the bytes of one peer, whose body is not cancelled after its end', async () => {
  const { source, events, bodies } = make([{ chunks: [4_000, 6_000], last: 'ends' }])
  assert.deepEqual(await read(source), Buffer.from(CONTENT))
  await source.cancel()
  assert.deepEqual(events, ['done'])
  assert.equal(bodies[0]?.isCancelled(), false)
  assert.deepEqual(source.contributors, [peerOf('0')])
})

test('ResumingSource goes on at the exact offset after a break, an early end and surplus bytes', async () => {
  const { source, events, bodies } = make([
    { chunks: [1_000], last: 'breaks' },
    { chunks: [500, 500], last: 'ends' },
    { chunks: [1], last: 'overflows' },
    { chunks: [], last: 'breaks' },
    { chunks: [10_000], last: 'ends' },
  ])
  assert.deepEqual(await read(source), Buffer.from(CONTENT))
  assert.deepEqual(events, [
    'done',
    'break at 1000: the connection broke',
    'on at 1000',
    'done',
    'break at 2000: the body ended 8000 bytes early',
    'on at 2000',
    'done',
    'break at 2001: more bytes than declared',
    'on at 2001',
    'done',
    'break at 2001: the connection broke',
    'on at 2001',
    'done',
  ])
  assert.deepEqual(
    bodies.map((body) => body.isCancelled()),
    [true, true, true, true, false],
  )
  // Who gave no byte is not to blame for any.
  assert.deepEqual(
    source.contributors,
    [0, 1, 2, 4].map((name) => peerOf(String(name))),
  )
})

test('ResumingSource ends with an error that says where, and why, when no peer is left', async () => {
  const { source } = make([{ chunks: [10], last: 'breaks' }])
  await source.next()
  await assert.rejects(source.next(), (error) => {
    assert.ok(error instanceof PeerError)
    assert.equal(error.message, 'no peer left for the bytes from 10 on')
    assert.equal((error.cause as Error).message, 'the connection broke')
    return true
  })
})

test('ResumingSource leaves a slow peer for another one, without losing a byte', async () => {
  const { source, events, bodies } = make([
    { chunks: [1_000, 9_000], last: 'ends', slow: true },
    { chunks: [9_000], last: 'ends' },
  ])
  assert.deepEqual(await read(source), Buffer.from(CONTENT))
  assert.deepEqual(events, ['slow at 1000', 'done', 'on at 1000', 'done'])
  assert.equal(bodies[0]?.isCancelled(), true)
})

test('ResumingSource stays with a slow peer when there is no other, and asks for one only once', async () => {
  const { source, events } = make([{ chunks: [1_000, 1_000, 8_000], last: 'ends', slow: true }])
  assert.deepEqual(await read(source), Buffer.from(CONTENT))
  assert.deepEqual(events, ['slow at 1000', 'done'])
})

test('ResumingSource looks for somebody in place of a slow peer again, each time after twice as long and at last every 20 windows', async () => {
  let slowWindows = 0
  const asked: number[] = []
  const body = { next: async () => new Uint8Array(1), cancel: async () => undefined }
  const watchdog = new Watchdog(body, { stallTimeout: 60_000 }, () => undefined)
  Object.defineProperty(watchdog, 'slowWindows', { get: () => ++slowWindows })
  const source = new ResumingSource(
    {
      reopen: async (_, __, isReplacement) => {
        assert.equal(isReplacement, true)
        asked.push(slowWindows)
        return undefined
      },
      isOnlySlow: () => assert.fail(),
      onBreak: () => assert.fail(),
      onSlow: () => undefined,
      onResume: () => assert.fail(),
      onDone: () => undefined,
    },
    { peer: peerOf('a'), body, watchdog },
    0,
    100,
  )
  await read(source)
  assert.deepEqual(asked, [1, 2, 4, 8, 16, 32, 52, 72, 92])
})

test('ResumingSource can begin without a peer, and with nothing to give', async () => {
  const { source } = make([{ chunks: [10_000], last: 'ends' }], 5, 5)
  assert.equal(await source.next(), undefined)
  const late = new ResumingSource(
    {
      reopen: async (offset) => bodyOf('late', { chunks: [10_000], last: 'ends' }, offset).watched,
      isOnlySlow: () => false,
      onBreak: () => assert.fail(),
      onSlow: () => assert.fail(),
      onResume: () => undefined,
      onDone: () => undefined,
    },
    undefined,
    7_000,
    10_000,
  )
  assert.deepEqual(await read(late), Buffer.from(CONTENT.subarray(7_000)))
})

test('ResumingSource ends at once when it is cancelled while it waits for a byte', async () => {
  const body = new TestSource()
  const watchdog = new Watchdog(body, { stallTimeout: 60_000 }, () => undefined)
  const nobody = () => assert.fail('nobody is to be asked')
  const source = new ResumingSource(
    { reopen: nobody, isOnlySlow: nobody, onBreak: nobody, onSlow: nobody, onResume: nobody, onDone: () => undefined },
    { peer: peerOf('a'), body, watchdog },
    0,
    100,
  )
  const next = source.next()
  await waitFor('a byte is waited for', () => body.asked === 1)
  await source.cancel()
  await assert.rejects(within('the end', next), inTime)
  assert.equal(body.cancelled, true)
  await assert.rejects(source.next(), /cancelled/)
})

test('ResumingSource lets go of a peer that is found after it was cancelled', async () => {
  const found = Promise.withResolvers<WatchedBody | undefined>()
  let searching: AbortSignal | undefined
  const source = new ResumingSource(
    {
      reopen: (_, signal) => {
        searching = signal
        return found.promise
      },
      isOnlySlow: () => false,
      onBreak: () => undefined,
      onSlow: () => assert.fail(),
      onResume: () => assert.fail('nobody goes on'),
      onDone: () => undefined,
    },
    undefined,
    0,
    100,
  )
  const next = source.next()
  await source.cancel()
  assert.equal(searching?.aborted, true)
  const late = bodyOf('late', { chunks: [100], last: 'ends' }, 0)
  found.resolve(late.watched)
  await assert.rejects(within('the end', next), /cancelled/)
  assert.equal(late.isCancelled(), true)
})

test('ResumingSource gives a prefix of the right bytes whatever peers do, and all of them only if it ends', async () => {
  const script = fc.record({
    chunks: fc.array(fc.integer({ min: 1, max: 4_000 }), { maxLength: 4 }),
    last: fc.constantFrom<Script['last']>('ends', 'breaks', 'overflows'),
    slow: fc.boolean(),
  })
  const range = fc
    .tuple(fc.nat(CONTENT.length), fc.nat(CONTENT.length))
    .map(([a, b]) => [Math.min(a, b), Math.max(a, b)])
  await fc.assert(
    fc.asyncProperty(fc.array(script, { minLength: 1, maxLength: 8 }), range, async (scripts, [start = 0, end = 0]) => {
      const { source, bodies } = make(scripts, start, end)
      const received: Uint8Array[] = []
      const complete = await read(source, received).then(
        () => true,
        () => false,
      )
      const bytes = Buffer.concat(received)
      assert.ok(bytes.equals(CONTENT.subarray(start, start + bytes.length)))
      assert.equal(complete, bytes.length === end - start)
      await source.cancel()
      // All but the one that gave the last byte are cancelled.
      const open = bodies.filter((body) => !body.isCancelled()).length
      assert.ok(open <= 1 && (complete || open === 0))
    }),
    { numRuns: 200 },
  )
})
