import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Activity, type Answered } from '../../../lib/observe/activity.ts'
import type { BlobTarget, ManifestTarget } from '../../../lib/oci/path.ts'
import { digestOf } from '../../fixtures/image.ts'

const PLACE = { registry: 'registry.example', repository: 'team/app' }
const tag = (name: string): ManifestTarget => ({ kind: 'manifest', ...PLACE, reference: { tag: name } })
const digest = (seed: number) => digestOf(new Uint8Array([seed]))
const blob = (seed: number, place = PLACE): BlobTarget => ({ kind: 'blob', ...place, digest: digest(seed) })
const answered = (target: Answered['target'], source: Answered['source'] = 'local', bytes = 10): Answered => ({
  target,
  source,
  bytes,
  headMs: 1,
})
const given = { outcome: 'complete', peers: ['10.0.0.2:5001'], bytes: 10, attempts: 2, resumes: 1 } as const

test('Activity puts the requests for one image together, and those of another apart', () => {
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
  assert.deepEqual(activity.totals, { requests: { local: 4, peer: 0, none: 1 }, bytes: { local: 35, peer: 0 } })
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

test('Activity knows of a part what the door and the transfer say of it, whichever comes first', () => {
  const parts = [
    (activity: Activity) => {
      activity.answered(answered(blob(1), 'peer'))(50)
      activity.transferred({ target: blob(1), ...given })
    },
    (activity: Activity) => {
      activity.transferred({ target: blob(1), ...given })
      activity.answered(answered(blob(1), 'peer'))(50)
    },
  ].map((say) => {
    const activity = new Activity()
    say(activity)
    assert.deepEqual(activity.totals.bytes, { local: 0, peer: 10 })
    return activity.pulls[0]?.parts[0]
  })
  const { peers, outcome, attempts, resumes, bytes } = { ...given }
  const expected = { key: digest(1), kind: 'blob', source: 'peer', headMs: 1, ms: 50 }
  for (const part of parts) assert.deepEqual(part, { ...expected, bytes, peers, attempts, resumes, outcome })
})

test('Activity knows what takes long, and what comes after it, for parts of the same pull', () => {
  let now = 0
  const activity = new Activity({ quiet: 100, now: () => now })
  activity.answered(answered(tag('1'), 'peer'))(1)
  const end = activity.answered(answered(blob(1), 'peer'))
  now = 500
  activity.answered(answered(blob(2), 'peer'))(1)
  now = 1_000
  activity.transferred({ target: blob(1), ...given })
  now = 1_500
  end(1_500)
  now = 1_550
  activity.answered(answered(blob(3), 'peer'))(1)
  const told = activity.pulls.map(({ parts }) => parts.map(({ source, peers, ms }) => [source, peers.length, ms]))
  assert.deepEqual(told, [
    [
      ['peer', 0, 1],
      ['peer', 1, 1_500],
      ['peer', 0, 1],
      ['peer', 0, 1],
    ],
  ])
})

test('Activity knows of which pull a transfer is when another one has begun', () => {
  const activity = new Activity()
  activity.answered(answered(tag('1'), 'peer'))(1)
  activity.answered(answered(blob(1), 'peer'))
  activity.answered(answered(tag('2'), 'peer'))(1)
  activity.transferred({ target: blob(1), ...given })
  assert.deepEqual(
    activity.pulls.map(({ parts }) => parts.map(({ peers }) => peers.length)),
    [[0], [0, 1]],
  )
})

test('Activity tells of a transfer that broke off as many bytes as there were', () => {
  const activity = new Activity()
  activity.answered(answered(blob(1), 'peer', 1_000))
  activity.transferred({ target: blob(1), ...given, outcome: 'failed', bytes: 300 })
  assert.equal(activity.pulls[0]?.parts[0]?.bytes, 300)
})

test('Activity keeps no more pulls, and no more parts of one, than it may', () => {
  const activity = new Activity({ pulls: 3, parts: 4 })
  for (let at = 0; at < 50; at++) {
    activity.answered(answered(tag(String(at))))
    for (let seed = 0; seed < 10; seed++) activity.answered(answered(blob(seed)))(1)
  }
  assert.equal(activity.pulls.length, 3)
  assert.deepEqual(
    activity.pulls.map(({ name, parts, more }) => [name.split(':')[1], parts.length, more]),
    [
      ['49', 4, 7],
      ['48', 4, 7],
      ['47', 4, 7],
    ],
  )
  assert.equal(activity.totals.requests.local, 550)
})
