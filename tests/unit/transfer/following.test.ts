import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { SourceState } from '../../../lib/flight/flight.ts'
import { PeerError } from '../../../lib/peers/error.ts'
import { following } from '../../../lib/transfer/following.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'

/** Follows a peer whose bytes and state the test gives, or whose state it never gives. */
function follow(first: SourceState | undefined, { isSilent = false, crowd = 0 } = {}) {
  const clock = new ManualClock()
  const parent = { state: first, looks: 0, cancelled: 0 }
  let give = Promise.withResolvers<Uint8Array | undefined>()
  const body = {
    next: () => give.promise,
    async cancel() {
      parent.cancelled++
      give.reject(new PeerError('cancelled'))
    },
  }
  const state = async (signal: AbortSignal) => {
    parent.looks++
    if (isSilent) await new Promise((resolve) => signal.addEventListener('abort', resolve))
    return parent.state
  }
  const source = following({ open: async () => body, state, clock, crowd }, 0)
  let end: unknown
  const wait = () => {
    give = Promise.withResolvers()
    give.promise.catch(() => undefined)
    const next = source.next()
    next.catch((error: unknown) => {
      end = error
    })
    return next
  }
  const come = async (bytes: number) => {
    give.resolve(new Uint8Array(bytes))
    await clock.pass(0)
  }
  return { clock, parent, source, wait, come, end: () => end }
}

const growing = (written: number, leads = true): SourceState => ({ kind: 'arriving', written, size: 1_000_000, leads })

/** The milliseconds after which the peer is left, if that is before the given time. */
async function leftAfter({ clock, end }: ReturnType<typeof follow>, most: number): Promise<number | undefined> {
  for (let ms = 0; ms <= most; ms += 100) {
    if (end() !== undefined) return ms
    await clock.pass(100)
  }
  return undefined
}

test("following asks for a peer's state only while it waits for bytes", async () => {
  const { clock, parent, wait, come } = follow(growing(100))
  const first = wait()
  await clock.pass(200)
  await come(100)
  assert.equal((await first)?.length, 100)
  await clock.pass(10_000)
  assert.equal(parent.looks, 0)
  const second = wait()
  await clock.pass(1_000)
  assert.ok(parent.looks >= 2)
  await come(1)
  await second
  await clock.pass(1_000)
  assert.equal(clock.pending, 0)
})

test('following waits for a peer that goes on, however slowly', async () => {
  const one = follow(growing(0))
  void one.wait().catch(() => undefined)
  for (let written = 0; written < 10; written++) {
    one.parent.state = growing(written)
    assert.equal(await leftAfter(one, 2_000), undefined)
    // The bytes that it has come sooner or later.
    await one.come(1)
    void one.wait().catch(() => undefined)
  }
})

test('following leaves a peer that gives a byte now and then, and counts only the time of waiting', async () => {
  const { clock, parent, wait, come, end } = follow(growing(0, false))
  for (let given = 0; given < 590; given++) {
    const next = wait()
    await clock.pass(100)
    await come(1)
    await next
    // The client rests.
    await clock.pass(1_000)
  }
  for (let given = 0; given < 20 && end() === undefined; given++) {
    void wait().catch(() => undefined)
    await clock.pass(100)
    await come(1)
  }
  assert.ok(end() instanceof PeerError)
  assert.equal(parent.looks, 0)
})

for (const [what, state, from, to, crowd = 0] of [
  ['has given up', { kind: 'gone' }, 300, 500],
  ['does not answer', undefined, 600, 2_000],
  ['leads, and gets nothing', growing(0), 15_000, 16_000],
  ['follows, and gets nothing at all', growing(0, false), 5_000, 6_000],
  ['follows below 40 others, and gets nothing at all', growing(0, false), 9_000, 10_000, 40],
  ['follows below very many others, and gets nothing at all', growing(0, false), 25_000, 26_000, 10_000],
  ['waits for its turn', { kind: 'later' }, 300, 500],
  ['has bytes that do not come', growing(500), 5_000, 6_000],
  ['has all of it, which does not come', { kind: 'held' }, 5_000, 6_000],
] as const) {
  test(`following leaves a peer that ${what}`, async () => {
    const one = follow(state, { crowd })
    const next = one.wait()
    const after = (await leftAfter(one, 30_000)) ?? Number.POSITIVE_INFINITY
    assert.ok(from <= after && after <= to, `after ${after} ms`)
    await assert.rejects(next, PeerError)
    assert.ok(one.parent.cancelled > 0)
    assert.equal(one.clock.pending, 0)
  })
}

test('following asks a peer that has not answered in time once more, at once', async () => {
  const one = follow(undefined, { isSilent: true })
  const next = one.wait()
  assert.equal(await leftAfter(one, 10_000), 1_500)
  await assert.rejects(next, PeerError)
  assert.equal(one.parent.looks, 2)
})

test('following waits for the turn of a peer as long as it is told that this is worth it', async () => {
  const one = follow({ kind: 'waiting', size: 1_000 })
  const next = one.wait()
  assert.equal(await leftAfter(one, 30_000), undefined)
  one.parent.state = { kind: 'later' }
  assert.ok((await leftAfter(one, 500)) !== undefined)
  await assert.rejects(next, PeerError)
})

test('following does not leave a peer for one answer that is lost', async () => {
  const one = follow(undefined)
  void one.wait().catch(() => undefined)
  await one.clock.pass(300)
  one.parent.state = growing(0)
  await one.clock.pass(300)
  one.parent.state = undefined
  await one.clock.pass(300)
  one.parent.state = growing(0)
  assert.equal(await leftAfter(one, 5_000), undefined)
})

test('following fails where the body of a peer ends early, and when it is cancelled', async () => {
  const { wait, source, come } = follow(growing(0))
  const next = wait()
  await come(10)
  await next
  const cancelled = wait()
  await source.cancel()
  await assert.rejects(cancelled, PeerError)
})

test('following leaves a peer that follows, and gets nothing more, later than one that leads', async () => {
  const one = follow(growing(1, false))
  const first = one.wait()
  await one.come(1)
  await first
  void one.wait().catch(() => undefined)
  const after = (await leftAfter(one, 30_000)) ?? 0
  assert.ok(25_000 <= after && after <= 26_000, `after ${after} ms`)
})
