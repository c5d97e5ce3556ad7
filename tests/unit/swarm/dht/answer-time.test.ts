import assert from 'node:assert/strict'
import { test } from 'node:test'
import { AnswerTime } from '../../../../lib/swarm/dht/client.ts'

test('AnswerTime waits for a second if answers are fast, and for longer if they are slow or do not come', () => {
  const roundTrip = new AnswerTime()
  assert.equal(roundTrip.timeout, 1_000)
  for (let now = 0; now < 1_000; now += 10) roundTrip.answered(now, now + 2)
  assert.equal(roundTrip.timeout, 1_000)
  for (const sentAt of [1_000, 1_010]) roundTrip.silent(sentAt, 2_010)
  assert.equal(roundTrip.timeout, 2_000)
  roundTrip.silent(2_100, 4_100)
  roundTrip.silent(4_100, 8_100)
  assert.equal(roundTrip.timeout, 4_000)
  roundTrip.answered(8_100, 9_900)
  const { timeout } = roundTrip
  assert.ok(timeout > 1_800 && timeout <= 4_000, `${timeout}`)
  for (let now = 10_000; now < 11_000; now += 10) roundTrip.answered(now, now + 2)
  assert.equal(roundTrip.timeout, 1_000)
})
