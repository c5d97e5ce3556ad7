import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { etagOf, matchesIfMatch, matchesIfNoneMatch, matchesIfRange } from '../../../lib/http/answer.ts'
import { parseDigest } from '../../../lib/oci/digest.ts'
import * as arbitrary from '../../fixtures/arbitrary.ts'

const OURS = parseDigest(`sha256:${'0'.repeat(64)}`)
const OTHER = parseDigest(`sha256:${'1'.repeat(64)}`)

test('etagOf is the digest in quotes', () => {
  assert.equal(etagOf(OURS), `"${OURS}"`)
})

for (const [header, expected] of [
  [null, false],
  ['', false],
  ['*', true],
  [' * ', true],
  [`"${OURS}"`, true],
  [`W/"${OURS}"`, true],
  [`"${OTHER}", "${OURS}"`, true],
  [`"${OTHER}",W/"${OURS}" ,`, true],
  [`"${OTHER}"`, false],
  [OURS, false],
  [`w/"${OURS}"`, false],
  [`W/W/"${OURS}"`, false],
] as const) {
  test(`matchesIfNoneMatch is ${expected} for ${header}`, () => {
    assert.equal(matchesIfNoneMatch(header, OURS), expected)
  })
}

for (const [header, expected] of [
  [null, true],
  [`"${OURS}"`, true],
  [` "${OURS}" `, true],
  [`W/"${OURS}"`, false],
  [`"${OTHER}"`, false],
  [`"${OURS}", "${OTHER}"`, false],
  ['Wed, 21 Oct 2015 07:28:00 GMT', false],
  ['*', false],
  [OURS, false],
  ['', false],
] as const) {
  test(`matchesIfRange is ${expected} for ${header}`, () => {
    assert.equal(matchesIfRange(header, OURS), expected)
  })
}

for (const [header, expected] of [
  [null, true],
  ['*', true],
  [`"${OURS}"`, true],
  [`"${OTHER}" ,"${OURS}"`, true],
  [`W/"${OURS}"`, false],
  [`"${OTHER}"`, false],
  [OURS, false],
  ['', false],
] as const) {
  test(`matchesIfMatch is ${expected} for ${header}`, () => {
    assert.equal(matchesIfMatch(header, OURS), expected)
  })
}

test('matchesIfMatch, matchesIfNoneMatch and matchesIfRange know only the own entity tag', () => {
  fc.assert(
    fc.property(arbitrary.digest, arbitrary.digest, (one, two) => {
      assert.equal(matchesIfMatch(etagOf(one), two), one === two)
      assert.equal(matchesIfNoneMatch(etagOf(one), two), one === two)
      assert.equal(matchesIfRange(etagOf(one), two), one === two)
    }),
  )
})
