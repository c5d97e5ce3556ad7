import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Digest } from '../../../lib/oci/digest.ts'
import { PeerError } from '../../../lib/peers/error.ts'
import { type Ending, inOneChunk, VerificationError, Verifier, verified, verify } from '../../../lib/transfer/verify.ts'
import { cut, sourceOf, TestSource } from '../../doubles/byte-source.ts'
import { read } from '../../doubles/http-peers.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import { digestOf } from '../../fixtures/image.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

test('verify knows right bytes from wrong ones, for every algorithm', () => {
  const bytes = Buffer.from('content')
  const long = `sha512:${createHash('sha512').update(bytes).digest('hex')}` as Digest
  for (const digest of [digestOf(bytes), long]) {
    verify(bytes, digest)
    assert.throws(() => verify(Buffer.from('contenT'), digest), VerificationError)
    assert.throws(() => verify(bytes.subarray(1), digest), VerificationError)
  }
})

/** The source, and the ends that were reported. */
function verifying(content: Uint8Array, digest: Digest | undefined, length: number, chunk = 100) {
  const endings: Ending[] = []
  const raw = sourceOf(cut(content, chunk))
  const verifier = digest === undefined ? undefined : new Verifier(digest)
  const source = verified(raw, length, verifier, (ending) => void endings.push(ending))
  return { raw, source, endings }
}

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
        const { source, endings } = verifying(bytes, digest, bytes.length, length)
        const received: Uint8Array[] = []
        if (wrongAt === null) {
          assert.deepEqual(await read(source), Buffer.from(content))
        } else {
          await assert.rejects(read(source, received), VerificationError)
          assert.equal(received.length, Math.ceil(bytes.length / length) - 1)
        }
        await source.cancel()
        assert.deepEqual(endings, [wrongAt === null ? 'complete' : 'corrupt'])
      },
    ),
  )
})

test('verified waits for whoever is told of wrong content before anybody else hears of it', async () => {
  const told = Promise.withResolvers<void>()
  const content = Buffer.from('content')
  const wrong = new Verifier(digestOf(Buffer.from('other')))
  const next = verified(sourceOf([content]), content.length, wrong, () => told.promise).next()
  let isOver = false
  const rejected = assert.rejects(next, VerificationError).then(() => {
    isOver = true
  })
  await new Promise((resolve) => setImmediate(resolve))
  assert.equal(isOver, false)
  told.resolve()
  await rejected
})

test('verified finds out about empty content too', async () => {
  const empty = new Uint8Array()
  const right = verifying(empty, digestOf(empty), 0)
  assert.equal(await right.source.next(), undefined)
  const wrong = verifying(empty, digestOf(Buffer.from('x')), 0)
  await assert.rejects(wrong.source.next(), VerificationError)
  assert.deepEqual([right.endings, wrong.endings], [['complete'], ['corrupt']])
})

test('verified without a digest tells how the source ends, once, and cancels it', async () => {
  const whole = verifying(Buffer.from('content'), undefined, 7)
  assert.equal(String(await read(whole.source)), 'content')
  await whole.source.cancel()
  assert.deepEqual([whole.endings, whole.raw.cancelled], [['complete'], true])
  const left = verifying(Buffer.from('content'), undefined, 7, 3)
  await left.source.next()
  await left.source.cancel()
  assert.deepEqual([left.endings, left.raw.cancelled], [['cancelled'], true])
  const failing = new TestSource()
  const endings: Ending[] = []
  const source = verified(failing, 7, undefined, (ending) => void endings.push(ending))
  const next = source.next()
  failing.fail(new Error('no peer left'))
  await assert.rejects(next, /no peer left/)
  assert.deepEqual(endings, ['failed'])
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

test('inOneChunk gives all bytes at once, however they come, and fails if there are fewer', async () => {
  const bytes = Buffer.from('the content of a manifest')
  for (const chunk of [1, 7, 100]) {
    const clock = new ManualClock()
    const whole = inOneChunk(sourceOf(cut(bytes, chunk)), bytes.length, clock)
    assert.deepEqual([await whole.next(), await whole.next()], [new Uint8Array(bytes), undefined])
    await assert.rejects(inOneChunk(sourceOf(cut(bytes, chunk)), bytes.length + 1, clock).next(), PeerError)
    assert.equal(clock.pending, 0)
  }
  assert.equal(await inOneChunk(sourceOf([]), 0, new ManualClock()).next(), undefined)
})

test('inOneChunk ends a source that drips for too long', async () => {
  const clock = new ManualClock()
  const source = new TestSource()
  const whole = inOneChunk(source, 1_000, clock).next()
  whole.catch(() => undefined)
  for (let seconds = 1; seconds < 10; seconds++) {
    await clock.pass(1_000)
    source.give(new Uint8Array(1))
    await waitFor('the next byte is wanted', () => source.asked === seconds + 1)
  }
  assert.equal(source.cancelled, false)
  await clock.pass(1_000)
  await assert.rejects(within('the end', whole), /cancelled/)
  assert.deepEqual([source.cancelled, clock.pending], [true, 0])
})
