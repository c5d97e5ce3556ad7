import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Activity, type Answered, type Attempt, type Here, type Transferred } from '../../../lib/observe/activity.ts'
import type { Digest } from '../../../lib/oci/digest.ts'
import type { BlobTarget, ManifestTarget } from '../../../lib/oci/path.ts'
import { digestOf } from '../../fixtures/image.ts'

const PLACE = { registry: 'registry.example', repository: 'team/app' }
const tag = (name: string): ManifestTarget => ({ kind: 'manifest', ...PLACE, tag: name })
const digest = (seed: number) => digestOf(new Uint8Array([seed]))
const blob = (seed: number, place = PLACE): BlobTarget => ({ kind: 'blob', ...place, digest: digest(seed) })
const answered = (target: Answered['target'], source: Answered['source'] = 'local', bytes = 10): Answered => ({
  target,
  source,
  bytes,
  headMs: 1,
})
const attempt: Attempt = { peer: '10.0.0.2:5001', from: 1, to: 9, bytes: 10 }
/** Begins a transfer; the returned function ends it. */
function transfer(activity: Activity, target: Answered['target'], given = 10) {
  const told: Transferred = { startedAt: 0, bytes: given, attempts: [{ ...attempt, bytes: given }] }
  activity.transferred(target, told)
  return (outcome: NonNullable<Transferred['outcome']> = 'complete') => {
    told.outcome = outcome
    activity.transferred(target, told)
  }
}
const nothing: Here = { describe: async () => undefined, arriving: async () => undefined }
const held = (size: number): Here => ({
  ...nothing,
  describe: async (digest: Digest) => ({ mediaType: 'layer', digest, size }),
})

test('Activity groups the requests for one image, apart from those for another', () => {
  const activity = new Activity()
  activity.answered(answered(tag('1'), 'none', 0))
  activity.answered(answered(blob(1)))
  activity.answered(answered(blob(1, { ...PLACE, repository: 'other' })))
  activity.answered(answered(tag('2'), 'local', 5))
  activity.answered(answered(blob(2)))
  assert.deepEqual(
    activity.pulls.map(({ name, parts }) => [name, parts.length]),
    [
      ['registry.example/team/app:2', 2],
      ['registry.example/other', 1],
      ['registry.example/team/app:1', 2],
    ],
  )
  const { requests, bytes } = activity.totals
  assert.deepEqual(
    [requests, bytes],
    [
      { local: 4, peer: 0, none: 1 },
      { local: 35, peer: 0, upstream: 0 },
    ],
  )
})

test('Activity begins another pull after a time without a request', () => {
  let now = 0
  const activity = new Activity({ quiet: 100, now: () => now })
  activity.answered(answered(tag('1')))
  now = 99
  activity.answered(answered(blob(1)))
  now = 250
  activity.answered(answered(blob(1)))
  assert.deepEqual(
    activity.pulls.map(({ parts, startedAt }) => [startedAt, parts.length]),
    [
      [250, 1],
      [0, 2],
    ],
  )
})

test('Activity tells for each part what it is, when it came, and what each peer gave', () => {
  let now = 1_000
  const activity = new Activity({ now: () => now })
  const ended = transfer(activity, blob(1))
  const [running] = activity.pulls[0]?.parts ?? []
  assert.deepEqual([running?.source, running?.transfers[0]?.attempts], [undefined, [attempt]])
  now = 1_004
  const descriptor = { size: 10, mediaType: 'layer' }
  const end = activity.answered({ ...answered(blob(1), 'peer'), headMs: 4, descriptor })
  ended()
  now = 1_050
  end()
  const { startedAt, endedAt, source, headMs, size, mediaType, transfers } = activity.pulls[0]?.parts[0] ?? {}
  assert.deepEqual([startedAt, endedAt, source, headMs, size, mediaType], [1_000, 1_050, 'peer', 4, 10, 'layer'])
  assert.deepEqual(transfers, [{ startedAt: 0, bytes: 10, attempts: [attempt], outcome: 'complete' }])
  assert.deepEqual(activity.totals.bytes, { local: 0, peer: 10, upstream: 0 })
})

test('Activity keeps slow parts, and parts after them, in the same pull', () => {
  let now = 0
  const activity = new Activity({ quiet: 100, now: () => now })
  activity.answered(answered(tag('1'), 'peer'))()
  const ended = transfer(activity, blob(1))
  const end = activity.answered(answered(blob(1), 'peer'))
  now = 500
  activity.answered(answered(blob(2), 'peer'))()
  now = 1_000
  ended()
  now = 1_500
  end()
  now = 1_550
  activity.answered(answered(blob(3), 'peer'))()
  const told = activity.pulls.map(({ parts }) => parts.map(({ transfers, endedAt }) => [transfers.length, endedAt]))
  assert.deepEqual(told, [
    [
      [0, 0],
      [1, 1_500],
      [0, 500],
      [0, 1_550],
    ],
  ])
})

test('Activity counts each request beyond the parts that it keeps once', () => {
  const activity = new Activity({ parts: 1 })
  activity.answered(answered(blob(1)))()
  for (const seed of [2, 3]) {
    const ended = transfer(activity, blob(seed))
    activity.answered(answered(blob(seed), 'peer'))()
    ended()
  }
  assert.deepEqual([activity.pulls[0]?.parts.length, activity.pulls[0]?.more], [1, 2])
})

test('Activity keeps what a peer gave before it failed, and adds the transfers of the next request', () => {
  let now = 0
  const activity = new Activity({ now: () => now })
  const ended = transfer(activity, blob(1), 300)
  const end = activity.answered({
    ...answered(blob(1), 'peer', 1_000),
    descriptor: { size: 1_000, mediaType: 'layer' },
  })
  now = 8_400
  ended('failed')
  end()
  activity.answered(answered(blob(1), 'none', 0))()
  const [part] = activity.pulls[0]?.parts ?? []
  assert.deepEqual(
    [part?.source, part?.startedAt, part?.endedAt, part?.size, part?.transfers.map(({ outcome }) => outcome)],
    ['none', 0, 8_400, 1_000, ['failed']],
  )
  assert.equal(activity.totals.failures, 1)
})

test('Activity begins a part anew that is asked for again after its end, or after its client left', () => {
  for (const outcome of ['complete', 'cancelled'] as const) {
    const activity = new Activity()
    const ended = transfer(activity, blob(1))
    if (outcome === 'complete') activity.answered(answered(blob(1), 'peer'))()
    ended(outcome)
    activity.answered(answered(blob(1), 'local'))()
    const [part] = activity.pulls[0]?.parts ?? []
    assert.deepEqual([part?.source, part?.transfers], ['local', []])
  }
})

test('Activity does not count transfers of a request without content for the next request', () => {
  const activity = new Activity()
  // A conditional request, and then one for the bytes.
  transfer(activity, blob(1), 0)('complete')
  const ended = transfer(activity, blob(1), 10)
  // Another request joins, and goes on by itself.
  activity.answered(answered(blob(1), 'peer'))
  ended()
  transfer(activity, blob(1), 5)
  const given = activity.pulls[0]?.parts[0]?.transfers.map(({ bytes }) => bytes)
  assert.deepEqual(given, [10, 5])
})

test('Activity learns how much came from upstream, once, without the bytes that peers gave', async () => {
  let now = 0
  const activity = new Activity({ now: () => now, patience: 100 })
  transfer(activity, blob(1), 300)('failed')
  activity.answered(answered(blob(1), 'none', 0))()
  activity.answered(answered(blob(2), 'none', 0))()
  // The first one was found after all, and the second one was left to upstream.
  activity.answered(answered(blob(3), 'none', 0))()
  activity.answered(answered(blob(3), 'peer'))()
  activity.answered({ ...answered(blob(4), 'none', 0), isForUpstream: true })()
  transfer(activity, blob(6), 400)('corrupt')
  activity.answered(answered(blob(6), 'none', 0))()
  await activity.learn(nothing)
  assert.equal(activity.totals.bytes.upstream, 0)
  await Promise.all([activity.learn(held(1_000)), activity.learn(held(1_000))])
  assert.equal(activity.totals.bytes.upstream, 2_700)
  assert.deepEqual(
    activity.pulls[0]?.parts.map(({ size, mediaType }) => [size, mediaType]),
    Array(5).fill([1_000, 'layer']),
  )
  activity.answered(answered(blob(5), 'none', 0))()
  now = 101
  await activity.learn(nothing)
  await activity.learn(held(1_000))
  assert.equal(activity.totals.bytes.upstream, 2_700)
})

test('Activity learns how much has arrived from upstream', async () => {
  const activity = new Activity()
  activity.answered(answered(blob(1), 'none', 0))()
  activity.answered(answered(blob(2), 'peer', 0))()
  const part = () => activity.pulls[0]?.parts.map(({ arrived, size }) => [arrived, size])
  await activity.learn({ ...nothing, arriving: async () => ({ size: 1_000, written: 400 }) })
  assert.deepEqual(part(), [
    [400, 1_000],
    [undefined, undefined],
  ])
  await activity.learn(held(1_000))
  assert.deepEqual(part(), [
    [undefined, 1_000],
    [undefined, 1_000],
  ])
})

test('Activity bounds pulls, parts, transfers and misses', async () => {
  const activity = new Activity({ pulls: 3, parts: 4, transfers: 2, missed: 5 })
  for (let at = 0; at < 50; at++) {
    activity.answered(answered(tag(String(at))))
    for (let seed = 0; seed < 10; seed++) {
      const ended = [0, 1, 2].map(() => transfer(activity, blob(seed)))
      for (const end of ended) end('missing')
      activity.answered(answered(blob(seed), 'none', 0))()
    }
  }
  assert.equal(activity.pulls.length, 3)
  assert.deepEqual(
    activity.pulls.map(({ name, parts }) => [name.split(':')[1], parts.map(({ transfers }) => transfers.length)]),
    [
      ['49', [0, 2, 2, 2]],
      ['48', [0, 2, 2, 2]],
      ['47', [0, 2, 2, 2]],
    ],
  )
  assert.equal(activity.totals.requests.none, 500)
  await activity.learn(held(1))
  assert.equal(activity.totals.bytes.upstream, 5)
})
