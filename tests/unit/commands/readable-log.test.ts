import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { readableLine } from '../../../lib/commands/serve.ts'
import { createLogger } from '../../../lib/observe/log.ts'
import { coloured } from '../../../lib/observe/paint.ts'
import { anyText } from '../../fixtures/arbitrary.ts'

/** The line of one call of a logger, for people. */
function told(write: (log: ReturnType<typeof createLogger>) => void, paint?: typeof coloured): string {
  let text = ''
  write(
    createLogger(
      (line) => {
        text += readableLine(line, paint)
      },
      'debug',
      () => new Date(2026, 10, 24, 2, 10, 17),
    ),
  )
  return text
}

test('a line of the log for people has the time of day, the level, the event and the fields', () => {
  assert.equal(
    told((log) => log.info('transfer', { outcome: 'complete', source: ['10.0.0.2:5001', '10.0.0.3:5001'], ms: 812 })),
    '02:10:17  info   transfer  outcome=complete  source=10.0.0.2:5001, 10.0.0.3:5001  ms=812\n',
  )
  assert.equal(told((log) => log.warn('odd', { code: 1 }), coloured).includes('\u001b[33modd\u001b[39m'), true)
  assert.equal(
    told((log) => log.warn('peer failed', { error: new Error('no answer'), remedy: { text: 'wait' }, peers: [] })),
    '02:10:17  warn   peer failed  error=no answer  remedy={...}  peers=\n',
  )
})

test('a line of the log for people stays one line that a terminal does not obey', () => {
  fc.assert(
    fc.property(anyText, (text) => {
      const line = told((log) => log.info('event', { text, list: [text], nested: { text } }))
      assert.match(line, /^[^\p{Cc}]*\n$/u)
    }),
  )
})

test('what is no line of the log stays as it is', () => {
  assert.equal(readableLine('Error: no\n'), 'Error: no\n')
})
