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

for (const [text, problem] of [
  ['', /no algorithm/],
  [HEX, /no algorithm/],
  [`md5:${HEX}`, /unsupported algorithm/],
  [`sha384:${HEX}`, /unsupported algorithm/],
  [`SHA256:${HEX}`, /unsupported algorithm/],
  [`toString:${HEX}`, /unsupported algorithm/],
  ['sha256:', /0 characters after the colon, expected 64/],
  [`sha256:${HEX}0`, /65 characters/],
  [`sha512:${HEX}`, /64 characters after the colon, expected 128/],
  [`sha256:${HEX.toUpperCase()}`, /lower-case hexadecimal/],
  [`sha256:${HEX.slice(1)}/`, /lower-case hexadecimal/],
  [`sha256:${HEX.slice(1)}\n`, /lower-case hexadecimal/],
  [`sha256:../${HEX.slice(3)}`, /lower-case hexadecimal/],
] as const) {
  test(`parseDigest refuses ${JSON.stringify(text)} and says what is accepted`, () => {
    assert.throws(
      () => parseDigest(text),
      (error) => error instanceof OciError && error.code === 'DIGEST_INVALID' && problem.test(error.message),
    )
    assert.throws(() => parseDigest(text), /accepted are sha256:<64 hex> and sha512:<128 hex>/)
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
