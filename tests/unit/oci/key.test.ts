import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { digestKey, tagKey } from '../../../lib/oci/key.ts'
import { parseReference } from '../../../lib/oci/reference.ts'
import * as arbitrary from '../../fixtures/arbitrary.ts'

test('tagKey is the full name, and differs from every digestKey', () => {
  const name = fc.record({ registry: arbitrary.registry, repository: arbitrary.repository, tag: arbitrary.tag })
  fc.assert(
    fc.property(name, arbitrary.digest, (named, digest) => {
      const key = tagKey(named)
      assert.equal(key, `${named.registry}/${named.repository}:${named.tag}`)
      assert.ok(key.includes('/') && !digestKey(digest).includes('/'))
      assert.equal(parseReference(key).tag, named.tag)
    }),
  )
})
