import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Pulling } from '../../../../lib/containerd/store/pulling.ts'
import type { Digest } from '../../../../lib/oci/digest.ts'
import { digestOf } from '../../../fixtures/image.ts'

const digest = (seed: number) => digestOf(new Uint8Array([seed]))

/** A snapshot in which these digests exist, are in an image, or are withheld. */
function snapshot({ there = [], inImage = [], withheld = [] }: Partial<Record<string, readonly Digest[]>>) {
  return {
    keys: new Set<never>(),
    sizes: new Map(there.map((digest) => [digest, 1])),
    mediaTypes: new Map(inImage.map((digest) => [digest, 'a/b'])),
    withheld: new Set(withheld),
    changed: false,
  }
}

const all = [1, 2, 3].map(digest)

test('Pulling finds what is complete and in no image yet', () => {
  const pulling = new Pulling(() => 0)
  for (const each of all) pulling.add(each)
  assert.deepEqual(pulling.complete(snapshot({}), 1), [])
  assert.deepEqual(pulling.complete(snapshot({ there: [digest(1), digest(3)] }), 1), [digest(1), digest(3)])
  // A digest in an image is no longer being pulled, whatever happens to the image.
  assert.deepEqual(pulling.complete(snapshot({ there: all, inImage: [digest(1)] }), 1), [digest(2), digest(3)])
  assert.deepEqual(
    [1, 2].map((seed) => pulling.has(digest(seed))),
    [false, true],
  )
  assert.deepEqual(pulling.complete(snapshot({ there: all }), 1), [digest(2), digest(3)])
  assert.deepEqual(pulling.complete(snapshot({ there: all, withheld: [digest(2)] }), 1), [digest(3)])
})

test('Pulling keeps what was found until a later snapshot misses it', () => {
  let now = 0
  const pulling = new Pulling(() => now)
  for (const seed of [1, 2]) pulling.add(digest(seed))
  now = 10
  pulling.found(digest(2))
  pulling.found(digest(3))
  assert.deepEqual(pulling.complete(snapshot({}), 9), [digest(2)])
  assert.deepEqual(pulling.complete(snapshot({}), 11), [])
})

test('Pulling forgets digests that never come after an hour, and the oldest if there are too many', () => {
  let now = 0
  const pulling = new Pulling(() => now)
  const many = Array.from({ length: 1025 }, (_, at) => digestOf(new Uint8Array([at % 256, at >> 8])))
  for (const each of many) pulling.add(each)
  assert.deepEqual(
    [many[0], many[1]].map((each) => each !== undefined && pulling.has(each)),
    [false, true],
  )
  const again = many[2] ?? assert.fail()
  now = 3_599_000
  pulling.add(again)
  now = 3_601_000
  assert.deepEqual(pulling.complete(snapshot({ there: many }), 1), [again])
  now = 7_300_000
  assert.deepEqual(pulling.complete(snapshot({ there: many }), 1), [])
  assert.equal(
    many.some((each) => pulling.has(each)),
    false,
  )
})
