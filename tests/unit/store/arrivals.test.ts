import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { ByteSource } from '../../../lib/platform/byte-source.ts'
import { Arrivals } from '../../../lib/store/arrivals.ts'
import { sourceOf } from '../../doubles/byte-source.ts'
import { createMemoryStore } from '../../doubles/memory-store.ts'
import { makeImage } from '../../fixtures/image.ts'
import { never } from '../../fixtures/layout.ts'
import { within } from '../../fixtures/wait.ts'

const content = makeImage({ layers: 1, layerSize: 3_000 }).contents.at(-1) ?? assert.fail('no layer')
const { digest } = content.descriptor
const BYTES = Buffer.from(content.bytes)
const KEPT = 1_000

function make() {
  const store = createMemoryStore()
  const writer = store.arrive(content)
  const arrivals = new Arrivals(store, KEPT)
  const arrival = arrivals.arriving(digest) ?? assert.fail('nothing arrives')
  return { writer, arrivals, arrival }
}

/** A source whose next chunk comes when a test says so. */
function script(): { readonly source: ByteSource; give(chunk: Uint8Array): void; fail(): void } {
  let next = Promise.withResolvers<Uint8Array>()
  return {
    source: { next: () => next.promise, cancel: async () => undefined },
    give(chunk) {
      next.resolve(chunk)
      next = Promise.withResolvers()
    },
    fail() {
      next.reject(new Error('lost'))
    },
  }
}

/** The bytes of an arrival from an offset on, as they come. */
function reading(arrival: { read(offset: number, signal: AbortSignal): AsyncIterable<Uint8Array> }, offset = 0) {
  const chunks = arrival.read(offset, never)[Symbol.asyncIterator]()
  let got = Buffer.alloc(0)
  return {
    async until(length: number) {
      while (got.length < length) {
        const { value } = await within('the next bytes', chunks.next())
        if (value === undefined) break
        got = Buffer.concat([got, value])
      }
      return got
    },
    end: () => chunks.return?.(undefined),
  }
}

test('what passes can be read before the store has it, and is counted', async () => {
  const { writer, arrivals, arrival } = make()
  const { source, give } = script()
  const passing = arrivals.passing(digest, 0, BYTES.length, source)
  const reader = reading(arrival)
  const first = reader.until(600)
  const chunk = passing.next()
  give(BYTES.subarray(0, 600))
  await chunk
  assert.deepEqual(await first, BYTES.subarray(0, 600))
  assert.equal(arrival.written, 600)
  await within('more than 599', arrival.grown(599, never))
  const rest = reader.until(BYTES.length)
  const last = passing.next()
  give(BYTES.subarray(600))
  await last
  // More bytes at once than are kept. The first of them come when the store has them.
  writer.write(BYTES.length - 500)
  assert.deepEqual(await rest, BYTES)
  writer.commit()
  assert.equal(await arrival.ended, 'committed')
  await reader.end()
})

test('what has passed before anybody read is read from the store', async () => {
  const { writer, arrivals, arrival } = make()
  const passing = arrivals.passing(digest, 0, BYTES.length, sourceOf([BYTES]))
  await passing.next()
  assert.equal(arrival.written, BYTES.length)
  const reader = reading(arrival, 100)
  writer.write(200)
  assert.deepEqual(await reader.until(100), BYTES.subarray(100, 200))
  writer.commit()
  assert.deepEqual(await reader.until(BYTES.length), BYTES.subarray(100))
})

test('what has passed counts no more when the rest does not come, and its readers go on with what is written', async () => {
  const { writer, arrivals, arrival } = make()
  const { source, give, fail } = script()
  const passing = arrivals.passing(digest, 0, BYTES.length, source)
  const reader = reading(arrival)
  const first = reader.until(600)
  const chunk = passing.next()
  give(BYTES.subarray(0, 600))
  await chunk
  await first
  const lost = assert.rejects(passing.next(), /lost/)
  fail()
  await lost
  assert.equal(arrival.written, 0)
  const rest = reader.until(BYTES.length)
  for (const bytes of [300, 900]) writer.write(bytes)
  writer.commit()
  assert.deepEqual(await rest, BYTES)
})

test('a part that passes for another client does not hide what is written', async () => {
  const { writer, arrivals, arrival } = make()
  const reader = reading(arrival)
  writer.write(500)
  assert.equal((await reader.until(500)).length, 500)
  const part = arrivals.passing(digest, 0, 100, sourceOf([BYTES.subarray(0, 100)]))
  while ((await part.next()) !== undefined);
  assert.equal(arrival.written, 500)
  const more = reader.until(900)
  writer.write(900)
  assert.deepEqual(await more, BYTES.subarray(0, 900))
  assert.equal(arrival.written, 900)
  await reader.end()
})

test('what has passed of a blob that is given up is no end of it', async () => {
  const { writer, arrivals, arrival } = make()
  await arrivals.passing(digest, 0, BYTES.length, sourceOf([BYTES.subarray(0, 700)])).next()
  const reader = reading(arrival, 700)
  const more = assert.rejects(reader.until(1), /given up/)
  writer.abort()
  await more
  assert.equal(await arrival.ended, 'aborted')
})

test('whatever passes, is written and is read in any order, readers get the bytes of the blob', async () => {
  const step = fc.record({
    /** Which of two transfers gives this many more bytes. */
    passing: fc.nat(1),
    bytes: fc.integer({ min: 1, max: 1_500 }),
    /** How far behind the store is. */
    behind: fc.nat(900),
    wanted: fc.nat(700),
  })
  const begun = fc.record({ second: fc.nat(BYTES.length - 1), offset: fc.nat(BYTES.length - 1) })
  await fc.assert(
    fc.asyncProperty(begun, fc.array(step, { maxLength: 12 }), async ({ second, offset }, steps) => {
      const { writer, arrivals, arrival } = make()
      const transfers = [0, second].map((start) => {
        const { source, give } = script()
        return { at: start, give, body: arrivals.passing(digest, start, BYTES.length - start, source) }
      })
      const reader = reading(arrival, offset)
      let written = 0
      let got = 0
      for (const { passing, bytes, behind, wanted } of steps) {
        const transfer = transfers[passing] ?? assert.fail()
        const chunk = BYTES.subarray(transfer.at, transfer.at + bytes)
        if (chunk.length > 0) {
          const passed = transfer.body.next()
          transfer.give(chunk)
          await passed
          transfer.at += chunk.length
        }
        written = Math.max(written, (transfers[0]?.at ?? 0) - behind)
        writer.write(written)
        got = Math.max(got, Math.min(wanted, written - offset))
        const have = await reader.until(got)
        assert.deepEqual(have, BYTES.subarray(offset, offset + have.length))
      }
      writer.commit()
      assert.deepEqual(await reader.until(BYTES.length), BYTES.subarray(offset))
    }),
  )
})
