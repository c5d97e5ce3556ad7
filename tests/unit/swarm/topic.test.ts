import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Key } from '../../../lib/oci/key.ts'
import { LOOPBACK_SWARM_KEY, topicOf } from '../../../lib/swarm/topic.ts'

const hex = (swarmKey: Uint8Array, key: string) => Buffer.from(topicOf(swarmKey, key as Key)).toString('hex')
const swarmKey = fc.uint8Array({ minLength: 32, maxLength: 32 })

test('topicOf gives 32 bytes that depend on the swarm key and on the key, and on nothing else', () => {
  fc.assert(
    fc.property(swarmKey, swarmKey, fc.string(), fc.string(), (one, other, key, otherKey) => {
      assert.equal(topicOf(one, key as Key).length, 32)
      assert.equal(hex(one, key), hex(Uint8Array.from(one), key))
      assert.equal(hex(one, key) === hex(other, key), Buffer.from(one).equals(other))
      assert.equal(hex(one, key) === hex(one, otherKey), key === otherKey)
    }),
  )
})

test('topicOf stays the same from version to version: nodes of two of them must find each other', () => {
  // HMAC-SHA256 of "swarmirror/topic/1\n" and the key, by openssl.
  const key = 'registry.example/team/app:1'
  assert.equal(hex(LOOPBACK_SWARM_KEY, key), '447b1a416435b83567f0c138bf036a6f3a184ac44aafdfb50233471ab5ca7838')
  assert.equal(hex(new Uint8Array(32).fill(1), key), 'ca48afb1b8def7d9bbfec98d838e3772eb8f1a4340ed0bb9d2b28947a36796f9')
})
