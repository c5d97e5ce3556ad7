import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type AskTime, CLOCK, compareClocks } from '../../../lib/mirror/peer-time.ts'

const never = new AbortController().signal
const SECOND = 1_000

async function clockOf(peers: readonly AskTime[]) {
  const [finding] = await CLOCK.judge(await compareClocks(peers, never))
  return finding ?? assert.fail()
}

test('clock is unknown where nobody can be asked, and says why', async () => {
  const silent = async () => undefined
  for (const [peers, reason] of [
    [[], /no other node is known/],
    [[silent], /no other node answers/],
  ] as const) {
    const { severity, seen } = await clockOf(peers)
    assert.equal(severity, 'unknown')
    assert.match(seen, reason)
  }
})

for (const [seconds, severity, seen] of [
  [0, 'ok', /is that of 1 other node$/],
  [20, 'ok', /20 s behind/],
  [-20, 'ok', /20 s ahead/],
  [90, 'warning', /90 s behind/],
  [-90, 'warning', /90 s ahead/],
] as const) {
  test(`clock that differs by ${seconds} s`, async () => {
    const found = await clockOf([async () => Date.now() + seconds * SECOND])
    assert.equal(found.severity, severity)
    assert.match(found.seen, seen)
  })
}

test('clock is compared with the middle of several, so that a wrong one does not count', async () => {
  const peers = [0, 0, 900].map((seconds) => async () => Date.now() + seconds * SECOND)
  assert.equal((await clockOf([...peers, async () => undefined])).severity, 'ok')
})

test('clock ends with its signal', async () => {
  const reason = new Error('enough')
  await assert.rejects(compareClocks([], AbortSignal.abort(reason)), reason)
})
