import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDownloads } from '../../../lib/flight/downloads.ts'
import { parseDigest } from '../../../lib/oci/digest.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'

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
