import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { conditionalAnswer, rangeHeaderOf } from '../../../lib/http/answer.ts'
import { parseDigest } from '../../../lib/oci/digest.ts'
import * as arbitrary from '../../fixtures/arbitrary.ts'

const OURS = parseDigest(`sha256:${'0'.repeat(64)}`)
const OTHER = parseDigest(`sha256:${'1'.repeat(64)}`)

const requestWith = (headers: Record<string, string>) => new Request('http://door.example/', { headers })
const statusOf = (name: string, header: string, digest = OURS) =>
  conditionalAnswer(requestWith({ [name]: header }), digest)?.status
const isRanged = (header: string, digest = OURS) =>
  rangeHeaderOf(
    { kind: 'blob', registry: 'registry.example', repository: 'app', digest },
    requestWith({ range: 'bytes=1-2', 'if-range': header }),
  ) !== undefined

for (const [header, expected] of [
  ['', undefined],
  ['*', 304],
  [' * ', 304],
  [`"${OURS}"`, 304],
  [`W/"${OURS}"`, 304],
  [`"${OTHER}", "${OURS}"`, 304],
  [`"${OTHER}",W/"${OURS}" ,`, 304],
  [`"${OTHER}"`, undefined],
  [OURS, undefined],
  [`w/"${OURS}"`, undefined],
  [`W/W/"${OURS}"`, undefined],
] as const) {
  test(`If-None-Match ${header} is answered with ${expected ?? 'the content'}`, () => {
    assert.equal(statusOf('if-none-match', header), expected)
  })
}

for (const [header, expected] of [
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
  test(`If-Range ${header} ${expected ? 'lets Range count' : 'makes Range count for nothing'}`, () => {
    assert.equal(isRanged(header), expected)
  })
}

for (const [header, expected] of [
  ['*', undefined],
  [`"${OURS}"`, undefined],
  [`"${OTHER}" ,"${OURS}"`, undefined],
  [`W/"${OURS}"`, 412],
  [`"${OTHER}"`, 412],
  [OURS, 412],
  ['', 412],
] as const) {
  test(`If-Match ${header} is answered with ${expected ?? 'the content'}`, () => {
    assert.equal(statusOf('if-match', header), expected)
  })
}

test('If-Match, If-None-Match and If-Range know only the own entity tag', () => {
  fc.assert(
    fc.property(arbitrary.digest, arbitrary.digest, (one, two) => {
      assert.equal(statusOf('if-match', `"${one}"`, two), one === two ? undefined : 412)
      assert.equal(statusOf('if-none-match', `"${one}"`, two), one === two ? 304 : undefined)
      assert.equal(isRanged(`"${one}"`, two), one === two)
    }),
  )
})
