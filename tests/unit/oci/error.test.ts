import assert from 'node:assert/strict'
import { test } from 'node:test'
import { OciError, type OciErrorCode, TAG_INVALID } from '../../../lib/oci/error.ts'

test('OciError has the status of its code', () => {
  const expected: [OciErrorCode, number][] = [
    ['BLOB_UNKNOWN', 404],
    ['DIGEST_INVALID', 400],
    ['MANIFEST_UNKNOWN', 404],
    ['NAME_INVALID', 400],
    ['NAME_UNKNOWN', 404],
    ['DENIED', 403],
    ['UNSUPPORTED', 405],
    ['TOOMANYREQUESTS', 429],
    [TAG_INVALID, 400],
  ]
  for (const [code, status] of expected) assert.equal(new OciError(code, 'x').status, status)
  assert.equal(new OciError('UNSUPPORTED', 'x', { status: 404 }).status, 404)
})

test('OciError as JSON is the body of the distribution-spec', () => {
  assert.deepEqual(JSON.parse(JSON.stringify(new OciError('BLOB_UNKNOWN', 'no such blob'))), {
    errors: [{ code: 'BLOB_UNKNOWN', message: 'no such blob' }],
  })
})

test('OciError keeps its cause out of the body', () => {
  const cause = new Error('secret')
  const error = new OciError('UNKNOWN', 'internal error', { cause })
  assert.equal(error.cause, cause)
  assert.doesNotMatch(JSON.stringify(error), /secret/)
})
