import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rareWarnings } from '../../../lib/observe/log.ts'
import { createLogRecorder } from '../../fixtures/log.ts'

test('rareWarnings warns once a minute of each event, with the latest fields and how many others there were', () => {
  const { log, lines } = createLogRecorder()
  let now = 0
  const warnings = rareWarnings(log, () => now)
  for (let second = 0; second < 150; second++, now += 1_000) warnings.warn('first', { second })
  warnings.warn('second', { from: '10.0.0.2:2' })
  assert.deepEqual(
    lines.map(({ level, event, fields }) => ({ level, event, ...fields })),
    [
      { level: 'warn', event: 'first', second: 0 },
      { level: 'warn', event: 'first', second: 60, left_out: 59 },
      { level: 'warn', event: 'first', second: 120, left_out: 59 },
      { level: 'warn', event: 'second', from: '10.0.0.2:2' },
    ],
  )
})
