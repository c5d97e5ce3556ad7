import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Refusals } from '../../../lib/swarm/refusals.ts'
import { createLogRecorder } from '../../fixtures/log.ts'

const A = { host: '10.0.0.1', port: 1 }
const B = { host: '10.0.0.2', port: 2 }

test('Refusals counts all, and warns once a minute for each reason, with an address and how many others there were', () => {
  const { log, lines } = createLogRecorder()
  let now = 0
  const refusals = new Refusals(log, () => now)
  for (let second = 0; second < 150; second++, now += 1_000) {
    refusals.note({ reason: 'unsealed' }, second === 120 ? B : A)
    refusals.note({ reason: 'repeated' }, A)
  }
  refusals.note({ reason: 'clock', ahead: -90 }, B)
  assert.equal(refusals.total, 301)
  const event = 'datagrams refused: not sealed under the swarm key'
  assert.deepEqual(
    lines.map(({ level, event, fields }) => ({ level, event, ...fields })),
    [
      { level: 'warn', event, from: '10.0.0.1:1' },
      { level: 'warn', event, from: '10.0.0.1:1', others: 59 },
      { level: 'warn', event, from: '10.0.0.2:2', others: 59 },
      {
        level: 'warn',
        event: 'datagrams refused: the clock of a member is wrong, or this one',
        from: '10.0.0.2:2',
        secondsAhead: -90,
      },
    ],
  )
})
