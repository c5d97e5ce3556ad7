import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { OciError, TAG_INVALID } from '../../../lib/oci/error.ts'
import {
  formatReference,
  fullReferenceOf,
  parseReference,
  parseRegistry,
  parseRepository,
  parseTag,
} from '../../../lib/oci/reference.ts'
import * as arbitrary from '../../fixtures/arbitrary.ts'

const SHA = `sha256:${'0123456789abcdef'.repeat(4)}`

for (const [text, full] of [
  ['alpine', 'docker.io/library/alpine:latest'],
  ['alpine:3.20', 'docker.io/library/alpine:3.20'],
  ['library/alpine:3.20', 'docker.io/library/alpine:3.20'],
  ['docker.io/alpine', 'docker.io/library/alpine:latest'],
  ['index.docker.io/alpine', 'docker.io/library/alpine:latest'],
  ['DOCKER.IO/team/app', 'docker.io/team/app:latest'],
  ['team/app', 'docker.io/team/app:latest'],
  ['ghcr.io/a/b/c/d:1', 'ghcr.io/a/b/c/d:1'],
  ['ghcr.io/app:1', 'ghcr.io/app:1'],
  ['localhost/app', 'localhost/app:latest'],
  ['localhost:5000/app:1', 'localhost:5000/app:1'],
  ['host:5000/app', 'host:5000/app:latest'],
  ['[::1]:5000/app:1', '[::1]:5000/app:1'],
  ['10.0.0.1/app', '10.0.0.1/app:latest'],
  [`alpine@${SHA}`, `docker.io/library/alpine@${SHA}`],
  [`registry.example:5000/a/b:1.2@${SHA}`, `registry.example:5000/a/b:1.2@${SHA}`],
  ['ghcr.io/a.b__c/x---y:_A.b-C', 'ghcr.io/a.b__c/x---y:_A.b-C'],
] as const) {
  test(`parseReference reads ${text} as ${full}`, () => {
    assert.equal(formatReference(parseReference(text)), full)
  })
}

for (const [text, code, problem] of [
  ['', 'NAME_INVALID', /empty component/],
  ['Alpine', 'NAME_INVALID', /component "Alpine"/],
  ['ghcr.io/a//b', 'NAME_INVALID', /empty component at character 2/],
  ['ghcr.io/', 'NAME_INVALID', /empty component/],
  ['/alpine', 'NAME_INVALID', /empty component/],
  ['ghcr.io/a/../b', 'NAME_INVALID', /component ".." at character 2/],
  ['ghcr.io/a___b', 'NAME_INVALID', /component "a___b"/],
  ['ghcr.io/-a', 'NAME_INVALID', /component "-a"/],
  ['host:0/app', 'NAME_INVALID', /port "0"/],
  ['host:65536/app', 'NAME_INVALID', /port "65536"/],
  ['host:/app', 'NAME_INVALID', /port ""/],
  ['under_score.example/app', 'NAME_INVALID', /"under_score" is not a label/],
  ['[::1/app', 'NAME_INVALID', /invalid registry/],
  ['alpine:', TAG_INVALID, /invalid tag "": it is empty/],
  ['alpine:a b', TAG_INVALID, /character " " at 1/],
  ['alpine:-x', TAG_INVALID, /character "-" at 0/],
  ['alpine@', 'DIGEST_INVALID', /no algorithm/],
  ['alpine@sha256:abc', 'DIGEST_INVALID', /3 characters/],
  [`alpine@${SHA}@${SHA}`, 'DIGEST_INVALID', /invalid digest/],
  [SHA, 'NAME_INVALID', /names no repository/],
  [SHA.slice('sha256:'.length), 'NAME_INVALID', /names no repository/],
] as const) {
  test(`parseReference refuses ${JSON.stringify(text)}`, () => {
    assert.throws(
      () => parseReference(text),
      (error) =>
        error instanceof OciError && error.code === code && error.status === 400 && problem.test(error.message),
    )
    assert.throws(() => parseReference(text), /accepted/)
  })
}

test('parseReference gives back what formatReference writes', () => {
  fc.assert(
    fc.property(arbitrary.reference, (reference) => {
      assert.deepEqual(parseReference(formatReference(reference)), reference)
      assert.deepEqual(fullReferenceOf(formatReference(reference)), reference)
    }),
  )
})

test('parseReference turns garbage into a valid reference or an OciError, and what it accepts stays the same', () => {
  fc.assert(
    fc.property(arbitrary.garbage, (text) => {
      try {
        const reference = parseReference(text)
        assert.deepEqual(parseReference(formatReference(reference)), reference)
        assert.equal(parseRepository(reference.repository), reference.repository)
        assert.equal(parseRegistry(reference.registry), reference.registry)
        assert.ok(reference.tag !== undefined || reference.digest !== undefined)
      } catch (error) {
        if (!(error instanceof OciError)) throw error
      }
    }),
    { numRuns: 1000 },
  )
})

test('fullReferenceOf adds nothing: registry and tag or digest must be there', () => {
  for (const name of ['docker.io/library/alpine:3.20', `localhost/a@${SHA}`]) {
    const reference = fullReferenceOf(name)
    assert.equal(reference && formatReference(reference), name)
  }
  for (const text of ['latest', 'alpine:3.20', 'team/app:1', 'docker.io/library/alpine', SHA, 'docker.io/A:1', '']) {
    assert.equal(fullReferenceOf(text), undefined, text)
  }
})

test('parseRepository and parseTag keep their limits', () => {
  assert.equal(parseRepository('a'.repeat(255)).length, 255)
  assert.throws(() => parseRepository('a'.repeat(256)), /256 characters, at most 255/)
  assert.equal(parseTag('a'.repeat(128)).length, 128)
  assert.throws(() => parseTag('a'.repeat(129)), /129 characters; accepted are 1 to 128/)
})

test('parseReference counts the limit of a repository with the library/ that it adds', () => {
  assert.throws(() => parseReference('a'.repeat(250)), /258 characters/)
})

test('parseRegistry reads hosts in lower case and refuses what is none', () => {
  for (const [text, registry] of [
    ['GHCR.io', 'ghcr.io'],
    ['Index.Docker.IO', 'docker.io'],
    ['registry', 'registry'],
    ['[2001:DB8::1]:443', '[2001:db8::1]:443'],
    ['xn--bcher-kva.example', 'xn--bcher-kva.example'],
  ] as const) {
    assert.equal(parseRegistry(text), registry)
  }
  for (const text of [
    '',
    '.',
    '..',
    'a..b',
    'a.',
    '-a',
    'a-',
    'a/b',
    'a b',
    'a\0',
    'a:1:2',
    '[::1]x',
    '[]',
    '[:::]',
    '[1.2.3.4]',
    '[fe80::1%eth0]',
    'a@b',
    'ä.de',
    'a:+1',
    'a: 1',
    'a%2eb',
    `${'a.'.repeat(127)}io`,
  ]) {
    assert.throws(() => parseRegistry(text), { name: 'OciError', code: 'NAME_INVALID' }, JSON.stringify(text))
  }
})

test('parseRegistry, parseRepository and parseTag throw nothing but OciError, and quickly', () => {
  fc.assert(
    fc.property(arbitrary.garbage, (text) => {
      for (const parse of [parseRegistry, parseRepository, parseTag]) {
        try {
          assert.equal(parse(parse(text)), parse(text))
        } catch (error) {
          if (!(error instanceof OciError)) throw error
        }
      }
    }),
  )
  // A pattern that backtracks would not come back from this.
  assert.throws(() => parseRepository(`${'a-_'.repeat(80)}!`), OciError)
  assert.throws(() => parseRepository(`${'a'.repeat(250)}!`), OciError)
  assert.throws(() => parseRegistry(`${'a-'.repeat(120)}!`), OciError)
})
