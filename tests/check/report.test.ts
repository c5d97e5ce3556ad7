import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { Finding, Severity } from '../../lib/check/finding.ts'
import { findingAsText, makeReport, reportAsJson, reportAsText } from '../../lib/check/report.ts'

function finding(severity: Severity, id: string): Finding {
  return { id, severity, seen: `saw ${id}`, expected: 'something', why: 'because' }
}

const MIXED = [
  finding('ok', 'a'),
  finding('unknown', 'b'),
  finding('error', 'c'),
  finding('warning', 'd'),
  finding('error', 'e'),
]

describe('makeReport', () => {
  it('puts first what must be read first, and fails with any error', () => {
    const { outcome, counts, findings } = makeReport(MIXED)
    assert.equal(outcome, 'failed')
    assert.deepEqual(counts, { error: 2, warning: 1, unknown: 1, ok: 1 })
    assert.deepEqual(
      findings.map(({ id }) => id),
      ['c', 'e', 'd', 'b', 'a'],
    )
  })

  it('passes with warnings and with what could not be checked', () => {
    assert.equal(makeReport([finding('warning', 'a'), finding('unknown', 'b')]).outcome, 'passed')
    assert.equal(makeReport([]).outcome, 'passed')
  })
})

describe('reportAsText', () => {
  it('gives what is right one line, and the rest its reason', () => {
    assert.equal(
      reportAsText(makeReport([finding('ok', 'a'), finding('error', 'c')])),
      'error   c: saw c\n  expected: something\n  why: because\nok      a: saw a\nfailed: 1 error, 1 right\n',
    )
    assert.equal(reportAsText(makeReport([])), 'passed: nothing was looked at\n')
    assert.match(reportAsText(makeReport(MIXED)), /\nfailed: 2 errors, 1 warning, 1 could not be checked, 1 right\n$/)
  })
})

describe('findingAsText', () => {
  it('prints lines and edits as they must stand in their file', () => {
    const remedy = {
      text: 'change it',
      file: '/etc/x.toml',
      edits: [
        { kind: 'replace', from: 2, to: 4, lines: [] },
        { kind: 'replace', from: 7, to: 7, lines: ['  a = 1'] },
        { kind: 'insert', after: 8, lines: ['b = 2'] },
        { kind: 'append', lines: ['[c]'] },
      ],
      command: 'restart',
    } as const
    assert.deepEqual(
      findingAsText({ ...finding('error', 'c'), remedy })
        .split('\n')
        .slice(3),
      [
        '  remedy: change it',
        '    in /etc/x.toml, by its line numbers as it is now:',
        '    delete lines 2 to 4',
        '    replace line 7 with:',
        '        a = 1',
        '    add below line 8:',
        '      b = 2',
        '    add at the end:',
        '      [c]',
        '    then: restart',
      ],
    )
    const lines = findingAsText({ ...finding('error', 'c'), remedy: { text: 'add', file: '/y', lines: ['z'] } })
    assert.deepEqual(lines.split('\n').slice(3), ['  remedy: add', '    in /y:', '      z'])
  })

  it('lets nothing from a file reach the terminal as a control character', () => {
    const text = findingAsText({ ...finding('ok', 'a'), seen: 'a\u001b[2Jb\u202ec\nd' })
    assert.equal(text, 'ok      a: a\\u001b[2Jb\\u202ec\\u000ad')
  })
})

describe('reportAsJson', () => {
  it('is one document that gives back the report', () => {
    const report = makeReport(MIXED)
    assert.deepEqual(JSON.parse(reportAsJson(report)), report)
  })
})
