import assert from 'node:assert/strict'
import { test } from 'node:test'
import { CLOCK } from '../../../lib/mirror/bootstrap-doors.ts'

const SECOND = 1_000

/** The finding if this machine's clock is ahead of those of other nodes by these milliseconds. */
async function clockOf(...ahead: readonly (number | undefined)[]) {
  const doors = ahead.map((aheadMs) => ({ host: '10.0.0.2', answer: 'accepts', aheadMs }) as const)
  const [finding] = await CLOCK.judge(doors)
  return finding ?? assert.fail()
}

test('clock is unknown if nobody can be asked, and says why', async () => {
  for (const [ahead, reason] of [
    [[], /no other node is known/],
    [[undefined], /no other node answers/],
  ] as const) {
    const { severity, seen } = await clockOf(...ahead)
    assert.equal(severity, 'unknown')
    assert.match(seen, reason)
  }
})

for (const [seconds, severity, seen] of [
  [0, 'ok', /agrees with that of 1 other node$/],
  [-20, 'ok', /20 s behind/],
  [20, 'ok', /20 s ahead/],
  [-90, 'warning', /90 s behind/],
  [90, 'warning', /90 s ahead/],
] as const) {
  test(`clock that is ahead by ${seconds} s`, async () => {
    const found = await clockOf(seconds * SECOND)
    assert.equal(found.severity, severity)
    assert.match(found.seen, seen)
  })
}

test('clock is compared with the median of several, so that a wrong one does not count', async () => {
  assert.equal((await clockOf(0, 0, -900 * SECOND, undefined)).severity, 'ok')
})
