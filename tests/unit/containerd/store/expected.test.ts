import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Expected } from '../../../../lib/containerd/store/expected.ts'
import { digestOf } from '../../../fixtures/image.ts'

const digest = (seed: number) => digestOf(new Uint8Array([seed]))
const always = () => true
const nothing = () => false

test('Expected tells what has arrived and is in no image yet', () => {
  const expected = new Expected({ now: () => 0 })
  for (const seed of [1, 2, 3]) expected.add(digest(seed))
  assert.deepEqual(expected.arrived(nothing, nothing, 0), [])
  assert.deepEqual(
    expected.arrived((other) => other !== digest(2), nothing, 0),
    [digest(1), digest(3)],
  )
  // Once it is in an image it is not expected any more, whatever becomes of the image.
  assert.deepEqual(
    expected.arrived(always, (other) => other === digest(1), 0),
    [digest(2), digest(3)],
  )
  assert.deepEqual(expected.arrived(always, nothing, 0), [digest(2), digest(3)])
})

test('Expected asks to look again soon, and later the longer nothing new is expected', () => {
  let now = 0
  const expected = new Expected({ now: () => now })
  assert.equal(expected.patience, undefined)
  expected.add(digest(1))
  assert.equal(expected.patience, 1_000)
  now = 80_000
  assert.equal(expected.patience, 10_000)
  expected.add(digest(2))
  assert.equal(expected.patience, 1_000)
  expected.arrived(nothing, always, 0)
  assert.equal(expected.patience, undefined)
})

test('Expected looks no more for what was found, until a look at everything that was begun later misses it', () => {
  let now = 0
  const expected = new Expected({ now: () => now })
  for (const seed of [1, 2]) expected.add(digest(seed))
  now = 10
  expected.note(digest(2), true)
  assert.deepEqual(expected.missing, [digest(1)])
  assert.deepEqual(expected.arrived(nothing, nothing, 9), [digest(2)])
  assert.deepEqual(expected.missing, [digest(1)])
  assert.deepEqual(expected.arrived(nothing, nothing, 11), [])
  assert.deepEqual(expected.missing, [digest(1), digest(2)])
  assert.deepEqual(expected.arrived(always, nothing, 12), [digest(1), digest(2)])
  assert.deepEqual(expected.missing, [])
  expected.note(digest(1), false)
  expected.note(digest(3), true)
  assert.deepEqual(expected.missing, [digest(1)])
  assert.deepEqual(expected.all, [digest(1), digest(2)])
})

test('Expected forgets what never comes, and the oldest when there is too much', () => {
  let now = 0
  const expected = new Expected({ limit: 2, life: 100, now: () => now })
  for (const seed of [1, 2, 3]) expected.add(digest(seed))
  assert.deepEqual(expected.arrived(always, nothing, 0), [digest(2), digest(3)])
  now = 60
  expected.add(digest(2))
  now = 120
  assert.deepEqual(expected.arrived(always, nothing, 0), [digest(2)])
  now = 200
  assert.deepEqual(expected.arrived(always, nothing, 0), [])
  assert.equal(expected.patience, undefined)
})
