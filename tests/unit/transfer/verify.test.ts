import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Digest } from '../../../lib/oci/digest.ts'
import { VerificationError, Verifier, verified, verify } from '../../../lib/transfer/verify.ts'
import { cut, sourceOf } from '../../doubles/byte-source.ts'
import { read } from '../../doubles/http-peers.ts'
import { digestOf } from '../../fixtures/image.ts'

test('verify knows right bytes from wrong ones, for every algorithm', () => {
  const bytes = Buffer.from('content')
  const long = `sha512:${createHash('sha512').update(bytes).digest('hex')}` as Digest
  for (const digest of [digestOf(bytes), long]) {
    verify(bytes, digest)
    assert.throws(() => verify(Buffer.from('contenT'), digest), VerificationError)
    assert.throws(() => verify(bytes.subarray(1), digest), VerificationError)
  }
})

test('verified hands on all right bytes, and of wrong ones all but the last chunk', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.uint8Array({ minLength: 1, maxLength: 1_000 }),
      fc.integer({ min: 1, max: 300 }),
      fc.option(fc.nat()),
      async (content, length, wrongAt) => {
        const digest = digestOf(content)
        const bytes = Uint8Array.from(content)
        if (wrongAt !== null) bytes[wrongAt % bytes.length] = ~(bytes[wrongAt % bytes.length] ?? 0)
        const source = verified(sourceOf(cut(bytes, length)), new Verifier(digest), bytes.length)
        const received: Uint8Array[] = []
        if (wrongAt === null) {
          assert.deepEqual(await read(source), Buffer.from(content))
        } else {
          await assert.rejects(read(source, received), VerificationError)
          assert.equal(received.length, Math.ceil(bytes.length / length) - 1)
        }
      },
    ),
  )
})

test('verified finds out about empty content too', async () => {
  const empty = new Uint8Array()
  assert.equal(await verified(sourceOf([]), new Verifier(digestOf(empty)), 0).next(), undefined)
  const wrong = new Verifier(digestOf(Buffer.from('x')))
  await assert.rejects(verified(sourceOf([]), wrong, 0).next(), VerificationError)
})

test('verified cancels its source', async () => {
  const source = sourceOf([])
  await verified(source, new Verifier(digestOf(new Uint8Array())), 10).cancel()
  assert.equal(source.cancelled, true)
})

test('Verifier copy has seen the same bytes and goes its own way', () => {
  const content = Buffer.from('a content of some length')
  const verifier = new Verifier(digestOf(content))
  verifier.update(content.subarray(0, 10))
  const right = verifier.copy()
  verifier.update(Buffer.from('wrong'))
  right.update(content.subarray(10))
  right.finish()
  assert.throws(() => verifier.finish(), VerificationError)
})
