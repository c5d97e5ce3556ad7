import assert from 'node:assert/strict'
import { test } from 'node:test'
import { RecordLimit } from '../../../../lib/swarm/dht/records.ts'
import { createLogRecorder } from '../../../fixtures/log.ts'

test('RecordLimit grows with what this node announces and with what is stored, and never shrinks', () => {
  const { log, lines } = createLogRecorder()
  const limit = new RecordLimit(log, [1_000, 100_000])
  const records = { size: 0, maxSize: 1_000, dropped: 0 }
  limit.adjust(records, 10)
  assert.equal(records.maxSize, 1_000)
  limit.adjust(records, 5_000)
  assert.equal(records.maxSize, 20_000)
  limit.adjust({ ...records, size: 900 }, 0)
  assert.equal(records.maxSize, 20_000)
  records.size = 19_000
  limit.adjust(records, 0)
  assert.equal(records.maxSize, 38_000)
  assert.deepEqual(lines, [])
})

test('RecordLimit says once that the most it may be is near, and again after it was not', () => {
  const { log, lines } = createLogRecorder()
  const limit = new RecordLimit(log, [1_000, 10_000])
  const records = { size: 9_000, maxSize: 1_000, dropped: 0 }
  limit.adjust(records, 0)
  limit.adjust(records, 0)
  assert.equal(lines.length, 1)
  assert.deepEqual([lines[0]?.level, lines[0]?.fields], ['warn', { records: 9_000, limit: 10_000 }])
  records.size = 100
  limit.adjust(records, 0)
  records.size = 8_500
  limit.adjust(records, 0)
  assert.equal(lines.length, 2)
})

test('RecordLimit says how many records were dropped since it said so last', () => {
  const { log, lines } = createLogRecorder()
  const limit = new RecordLimit(log, [1_000, 10_000])
  for (const dropped of [0, 7, 7, 10]) limit.adjust({ size: 5_000, maxSize: 10_000, dropped }, 0)
  assert.deepEqual(
    lines.map(({ level, fields }) => [level, fields]),
    [
      ['warn', { records: 7 }],
      ['warn', { records: 3 }],
    ],
  )
})
