import assert from 'node:assert/strict'
import { test } from 'node:test'
import { boundedLog } from '../../../lib/observe/log.ts'
import { createLogRecorder } from '../../fixtures/log.ts'

function setup() {
  const { log, lines } = createLogRecorder()
  let time = 0
  return {
    lines,
    log: boundedLog(log, { now: () => time }),
    pass: (ms: number) => {
      time += ms
    },
  }
}

test('boundedLog writes lines as they are while they are few, each with its level', () => {
  const { log, lines, pass } = setup()
  const error = new Error('the disk is gone')
  for (let second = 0; second < 100; second++) {
    log.error('request failed', { path: '/v2/', error, count: second })
    log.debug('client went away')
    pass(1_000)
  }
  assert.equal(lines.length, 200)
  assert.deepEqual(lines[198], { level: 'error', event: 'request failed', fields: { path: '/v2/', error, count: 99 } })
  assert.deepEqual(lines[199], { level: 'debug', event: 'client went away', fields: {} })
})

test('boundedLog bounds a flood of one event, says how much it left out, and leaves other events alone', () => {
  const { log, lines, pass } = setup()
  for (let ms = 0; ms < 10_000; ms++) {
    log.error('request failed', { ms })
    pass(1)
  }
  // 20 lines at once, and one in each of the ten seconds.
  assert.ok(lines.length >= 29 && lines.length <= 30, `${lines.length} lines`)
  log.error('answer broke off')
  assert.equal(lines.at(-1)?.event, 'answer broke off')
  const before = lines.filter(({ event }) => event === 'request failed')
  const told = before.reduce((sum, { fields }) => sum + 1 + Number(fields.left_out ?? 0), 0)
  pass(60_000)
  log.error('request failed')
  assert.equal(told + Number(lines.at(-1)?.fields.left_out), 10_000)
  // After a pause as many lines may come at once as at first, and no count is reported twice.
  for (let count = 0; count < 30; count++) log.error('request failed')
  assert.equal(lines.filter(({ event }) => event === 'request failed').length, before.length + 20)
  assert.equal(lines.at(-1)?.fields.left_out, undefined)
})

test('boundedLog on another one says how many lines both have left out', () => {
  const { log: shared, lines, pass } = setup()
  let time = 0
  const doors = [1, 2].map(() => boundedLog(shared, { now: () => time }))
  const flood = (ms: number) => {
    for (const log of doors) log.error('request failed')
    time += ms
    pass(ms)
  }
  for (let count = 0; count < 5_000; count++) flood(10)
  // After a pause nothing is left out any more, and the last lines tell of what was.
  time += 60_000
  pass(60_000)
  flood(1)
  const told = lines.reduce((sum, { fields }) => sum + 1 + Number(fields.left_out ?? 0), 0)
  assert.equal(told, 10_002)
})

test('boundedLog cuts texts of fields, and only those that are too long', () => {
  const { log, lines } = setup()
  log.warn('request failed', { path: 'x'.repeat(16_000), method: 'GET', short: 'y'.repeat(256) })
  const { path, method, short } = lines[0]?.fields ?? {}
  assert.equal(path, `${'x'.repeat(256)}...`)
  assert.deepEqual([method, short], ['GET', 'y'.repeat(256)])
})
