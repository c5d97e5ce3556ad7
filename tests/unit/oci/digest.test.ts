import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { algorithmOf, hexOf, isDigest, parseDigest } from '../../../lib/oci/digest.ts'
import { OciError } from '../../../lib/oci/error.ts'
import * as arbitrary from '../../fixtures/arbitrary.ts'

const HEX = '0123456789abcdef'.repeat(4)

test('parseDigest accepts sha256 and sha512, and gives them back in parts', () => {
  fc.assert(
    fc.property(arbitrary.digest, (digest) => {
      assert.equal(parseDigest(digest), digest)
      assert.equal(`${algorithmOf(digest)}:${hexOf(digest)}`, digest)
      assert.ok(isDigest(digest))
    }),
  )
})

for (const text of [
  '',
  HEX,
  `md5:${HEX}`,
  `sha384:${HEX}`,
  `SHA256:${HEX}`,
  `toString:${HEX}`,
  'sha256:',
  `sha256:${HEX}0`,
  `sha512:${HEX}`,
  `sha256:${HEX.toUpperCase()}`,
  `sha256:${HEX.slice(1)}/`,
  `sha256:${HEX.slice(1)}\n`,
  `sha256:../${HEX.slice(3)}`,
]) {
  test(`parseDigest refuses ${JSON.stringify(text)} and says what is accepted`, () => {
    const message = /^invalid digest ".*; accepted are sha256:<64 hex> and sha512:<128 hex>, in lower case$/
    assert.throws(() => parseDigest(text), { name: 'OciError', code: 'DIGEST_INVALID', message })
  })
}

test('parseDigest echoes no more than the beginning of a long text', () => {
  assert.throws(
    () => parseDigest('x'.repeat(100_000)),
    (error) => error instanceof OciError && error.message.length < 300,
  )
})

test('isDigest agrees with parseDigest on garbage, which throws nothing but OciError', () => {
  fc.assert(
    fc.property(arbitrary.garbage, (text) => {
      let accepted = true
      try {
        parseDigest(text)
      } catch (error) {
        assert.ok(error instanceof OciError)
        accepted = false
      }
      assert.equal(isDigest(text), accepted)
    }),
  )
})
