import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { createLogger, LOG_LEVELS, type LogFields, type LogLevel } from '../../../lib/observe/log.ts'
import { OciError } from '../../../lib/oci/error.ts'

const NOW = new Date('2026-01-02T03:04:05.678Z')

function record(level: LogLevel = 'debug') {
  const lines: string[] = []
  return {
    lines,
    log: createLogger(
      (line) => lines.push(line),
      level,
      () => NOW,
    ),
  }
}

/** The fields of a line, as a program reads them. */
function fieldsOf(fields: LogFields): Record<string, unknown> {
  const { log, lines } = record()
  log.info('something', fields)
  const { time, level, event, ...rest } = JSON.parse(lines[0] ?? '') as Record<string, unknown>
  assert.deepEqual([time, level, event], [NOW.toISOString(), 'info', 'something'])
  return rest
}

test('createLogger writes one JSON object a line, with time, level, event and fields', () => {
  const { log, lines } = record()
  log.warn('peer failed', { host: 'a\nb', port: 1 })
  assert.deepEqual(lines, [
    '{"time":"2026-01-02T03:04:05.678Z","level":"warn","event":"peer failed","host":"a\\nb","port":1}\n',
  ])
})

test('createLogger writes lines of its level and of more important ones', () => {
  for (const [index, level] of LOG_LEVELS.entries()) {
    const { log, lines } = record(level)
    for (const each of LOG_LEVELS) log[each](each)
    const events = lines.map((line) => (JSON.parse(line) as { event: string }).event)
    assert.deepEqual(events, LOG_LEVELS.slice(index))
  }
})

test('createLogger tells errors with code and causes', () => {
  const cause = Object.assign(new TypeError('refused'), { code: 'ECONNREFUSED' })
  assert.deepEqual(fieldsOf({ error: new Error('no answer', { cause }) }), {
    error: {
      name: 'Error',
      message: 'no answer',
      cause: { name: 'TypeError', message: 'refused', code: 'ECONNREFUSED' },
    },
  })
  assert.deepEqual(fieldsOf({ error: new AggregateError([new Error('a'), 'b'], 'all') }), {
    error: { name: 'AggregateError', message: 'all', errors: [{ name: 'Error', message: 'a' }, 'b'] },
  })
})

test('createLogger tells an error that has a JSON form for clients as an error, with its cause', () => {
  const error = new OciError('UNKNOWN', 'internal', { cause: new Error('the disk is gone') })
  assert.deepEqual(fieldsOf({ error }), {
    error: {
      name: 'OciError',
      message: 'internal',
      code: 'UNKNOWN',
      cause: { name: 'Error', message: 'the disk is gone' },
    },
  })
})

test('createLogger tells an error that is its own cause once', () => {
  const error = new Error('round')
  error.cause = new Error('and round', { cause: error })
  assert.deepEqual(fieldsOf({ error }), {
    error: { name: 'Error', message: 'round', cause: { name: 'Error', message: 'and round', cause: 'Error as above' } },
  })
})

test('createLogger writes big integers as text, and leaves out undefined fields', () => {
  assert.deepEqual(fieldsOf({ size: 2n ** 64n, missing: undefined }), { size: '18446744073709551616' })
})

test('createLogger writes no text that a terminal could obey, or that could begin another line', () => {
  const orders = '\u001b[2J\u009b2J\u0085\u007f\u2028\u2029\u202e\u2066\u200f\u061c\r\n{"event":"forged"}'
  const { log, lines } = record()
  log.warn('tried', { name: orders, [orders]: 'a name', error: new Error(orders) })
  assert.equal(lines.length, 1)
  assert.match(lines[0] ?? '', /^[\x20-\x7e]*\n$/)
  const { name, error, [orders]: named } = JSON.parse(lines[0] ?? '')
  assert.deepEqual([name, error.message, named], [orders, orders, 'a name'])
})

test('createLogger writes the letters of all languages as they are', () => {
  const { log, lines } = record()
  log.info('naïve', { text: 'Ωμέγα 日本 \u{1f433}' })
  assert.match(lines[0] ?? '', /naïve.*Ωμέγα 日本 \u{1f433}/u)
})

test('createLogger never writes more or less than one line, whatever the fields are', () => {
  const value = fc.anything({ withBigInt: true, withDate: true, withNullPrototype: true, withObjectString: true })
  fc.assert(
    fc.property(fc.string(), fc.dictionary(fc.string(), value), (event, fields) => {
      const { log, lines } = record()
      log.error(event, fields)
      assert.equal(lines.length, 1)
      assert.match(lines[0] ?? '', /^\{.*\}\n$/)
      JSON.parse(lines[0] ?? '')
    }),
  )
})

test('createLogger cuts texts that are too long, wherever they are', () => {
  const long = 'x'.repeat(10_000)
  const { path, error } = fieldsOf({ path: long, error: new Error(long) }) as {
    path: string
    error: { message: string }
  }
  assert.deepEqual([path.length, error.message.length], [4_099, 4_099])
})
