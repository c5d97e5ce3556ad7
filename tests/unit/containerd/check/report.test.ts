import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { findingAsText, makeReport, reportAsJson, reportAsText } from '../../../../lib/containerd/check/report.ts'
import type { Finding, Severity } from '../../../../lib/containerd/rule.ts'
import { readPrintedRemedies } from '../../../fixtures/printed-remedies.ts'

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
  it('puts the most important findings first, and fails with any error', () => {
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
  it('gives a right finding one line, and others a reason', () => {
    assert.equal(
      reportAsText(makeReport([finding('ok', 'a'), finding('error', 'c')])),
      'error   c: saw c\n  expected: something\n  why: because\nok      a: saw a\nfailed: 1 error, 1 right\n',
    )
    assert.equal(reportAsText(makeReport([])), 'passed: nothing was looked at\n')
    const looked = (_look: string, text: string) => `<${text}>`
    assert.equal(
      reportAsText(makeReport([finding('ok', 'a')]), looked),
      '<passed: 1 right>\n\n<ok      ><a>: saw a\n',
      'the sum comes first on a terminal',
    )
    assert.match(reportAsText(makeReport(MIXED)), /\nfailed: 2 errors, 1 warning, 1 could not be checked, 1 right\n$/)
  })
})

describe('findingAsText', () => {
  it('prints lines as they must stand in their file', () => {
    const remedy = { text: 'add', file: '/etc/x.toml', lines: ['[c]', '  a = 1'], command: 'restart' }
    const lines = findingAsText({ ...finding('error', 'c'), remedy }).split('\n')
    const expected = ['  remedy: add', '    in /etc/x.toml:', '      [c]', '        a = 1', '    then: restart']
    assert.deepEqual(lines.slice(3), expected)
  })

  it('lets no control character of a file reach the terminal', () => {
    const text = findingAsText({ ...finding('ok', 'a'), seen: 'a\u001b[2Jb\u202ec\nd' })
    assert.equal(text, 'ok      a: a\\u001b[2Jb\\u202ec\\u000ad')
  })

  it('prints remedies from which they can be read again, whatever they change', () => {
    const line = fc.stringMatching(/^[ \t]*[\x20-\x7e\u00e4]*$/)
    const lines = fc.array(line, { maxLength: 4 })
    const file = fc.constantFrom('/etc/containerd/config.toml', '/with a space/x.toml')
    const remedy = fc.oneof(
      fc.record({ text: fc.constant('write'), file, lines }),
      fc.record({ text: fc.constant('set'), lines: fc.constant(['SWARMIRROR_CERTS_DIR=/x']) }),
      fc.record({ text: fc.constant('type'), command: fc.constant("swarmirror hosts --certs-dir '/a b'") }),
    )
    fc.assert(
      fc.property(fc.array(remedy, { maxLength: 4 }), (remedies) => {
        const report = makeReport([
          finding('ok', 'a'),
          ...remedies.map((remedy): Finding => ({ ...finding('error', 'b'), remedy })),
        ])
        const read = readPrintedRemedies(reportAsText(report))
        const shared = { id: 'b', severity: 'error', file: undefined, lines: [], command: undefined }
        assert.deepEqual(
          read,
          // Records of fast-check may be without a prototype.
          structuredClone(remedies.map((remedy) => ({ ...shared, ...remedy }))),
        )
      }),
    )
  })
})

describe('reportAsJson', () => {
  it('is one document that gives back the report', () => {
    const report = makeReport(MIXED)
    assert.deepEqual(JSON.parse(reportAsJson(report)), report)
  })
})
