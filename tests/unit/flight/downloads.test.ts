import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDownloads } from '../../../lib/flight/downloads.ts'
import { parseDigest } from '../../../lib/oci/digest.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import { createMemoryStore } from '../../doubles/memory-store.ts'
import { makeImage } from '../../fixtures/image.ts'

for (const [gives, most] of [
  [true, 16],
  [false, 2],
] as const) {
  test(`createDownloads: what does not arrive is looked for at most ${most} times where the store ${gives ? 'may' : 'cannot'} tell`, async () => {
    const clock = new ManualClock()
    let looks = 0
    const ends: string[] = []
    const downloads = createDownloads({
      store: { arriving: () => void looks++ },
      ...{ holds: () => false, gives, clock },
      onProgress: () => assert.fail('nothing has come'),
      onEnd: (_, end) => ends.push(end),
    })
    const { digest } = downloads.begin(parseDigest(`sha256:${'0'.repeat(64)}`))
    await clock.pass(3_000)
    assert.deepEqual([ends, downloads.get(digest), clock.pending], [['aborted'], undefined, 0])
    assert.ok(looks <= most, `${looks} looks`)
  })
}

test('createDownloads: what has begun and no longer grows is given up after a minute, because its puller may be dead', async () => {
  const clock = new ManualClock()
  const store = createMemoryStore()
  const content = makeImage({ layers: 1 }).contents.at(-1) ?? assert.fail('no layer')
  const writer = store.arrive(content)
  const ends: string[] = []
  let told = 0
  const downloads = createDownloads({
    ...{ store, holds: () => false, gives: true, clock },
    onProgress: () => told++,
    onEnd: (_, end) => ends.push(end),
  })
  const { digest } = downloads.begin(content.descriptor.digest)
  await clock.pass(120_000)
  assert.ok(downloads.get(digest) !== undefined, 'its turn may come late')
  for (const bytes of [1, 2, 3]) {
    writer.write(bytes)
    await clock.pass(50_000)
  }
  assert.deepEqual([ends, downloads.get(digest)?.arrival?.written], [[], 3])
  await clock.pass(20_000)
  assert.deepEqual([ends, downloads.get(digest), clock.pending], [['aborted'], undefined, 0])
  const before = told
  await clock.pass(60_000)
  assert.equal(told, before)
})
