import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { ByteSource } from '../../../lib/platform/byte-source.ts'
import { createFlow, type Flow } from '../../../lib/transfer/flow.ts'
import type { Span } from '../../../lib/transfer/piece.ts'
import { VerificationError, Verifier, verified } from '../../../lib/transfer/verify.ts'
import { cut, sourceOf, TestSource } from '../../doubles/byte-source.ts'
import { read } from '../../doubles/http-peers.ts'
import { digestOf } from '../../fixtures/image.ts'
import { inTime, waitFor, within } from '../../fixtures/wait.ts'

const CONTENT = new Uint8Array(1_000).map((_, index) => index % 251)
const WINDOW = 300

/** A flow of the content in pieces of 100 bytes. `alone` gives the rest to a reader that falls behind. */
function make(bytes: Uint8Array = CONTENT, window = WINDOW) {
  const digest = digestOf(CONTENT)
  const raw = sourceOf(cut(bytes, 100))
  const verifier = new Verifier(digest)
  const alone: Span[] = []
  let idle = 0
  const flow = createFlow({
    source: verified(raw, bytes.length, verifier, () => undefined),
    span: { start: 0, end: bytes.length },
    verifier,
    alone(span, seen) {
      alone.push(span)
      const rest = sourceOf(cut(bytes.subarray(span.start, span.end), 70))
      return verified(rest, span.end - span.start, span.end < bytes.length ? undefined : seen, () => undefined)
    },
    window: () => window,
    onRetire: () => idle++,
  })
  const attach = (start = 0, end = bytes.length) => flow.attach({ start, end }) ?? assert.fail(`not at ${start}`)
  return { flow, raw, alone, attach, idle: () => idle }
}

/** A flow of ten bytes that come when the test says so. */
function ofSource(source: ByteSource, window = WINDOW): Flow {
  const alone = () => assert.fail('nobody goes on alone')
  const span = { start: 0, end: 10 }
  return createFlow({
    source,
    span,
    alone,
    window: () => window,
    onRetire: () => undefined,
  })
}

async function take(source: ByteSource, count: number): Promise<void> {
  for (let index = 0; index < count; index++) assert.equal((await source.next())?.length, 100)
}

test('Flow gives all readers all bytes, each read from the source once', async () => {
  const { raw, attach, alone, idle } = make()
  const readers = [attach(), attach(), attach()]
  for (const bytes of await Promise.all(readers.map((reader) => read(reader)))) {
    assert.deepEqual(bytes, Buffer.from(CONTENT))
  }
  assert.equal(raw.read, 10)
  assert.deepEqual(alone, [])
  assert.equal(idle(), 1)
})

test('Flow reads its source only when the foremost reader wants more', async () => {
  const { raw, attach } = make()
  const [fast, slow] = [attach(), attach()]
  await take(fast, 2)
  assert.equal(raw.read, 2)
  await take(slow, 2)
  assert.equal(raw.read, 2)
})

test('Flow takes readers on within its window, also in the middle of a chunk, and none before it or beyond its end', async () => {
  const { flow, attach } = make()
  const first = attach()
  await take(first, 2)
  assert.deepEqual(await read(attach()), Buffer.from(CONTENT))
  assert.equal(flow.attach({ start: 699, end: 1_000 }), undefined)
  assert.deepEqual(await read(attach(755, 765)), Buffer.from(CONTENT.subarray(755, 765)))
  assert.equal(flow.attach({ start: 900, end: 1_001 }), undefined)
  await first.cancel()
  assert.equal(flow.attach({ start: 1_000, end: 1_000 }), undefined)
})

test('Flow lets a reader that falls behind go on alone at its offset, verified', async () => {
  const { flow, attach, alone } = make()
  const [fast, slow] = [attach(), attach()]
  await take(slow, 1)
  await take(fast, 4)
  assert.ok(flow.kept <= WINDOW)
  // The reader's next byte is still there.
  await take(slow, 1)
  await take(fast, 6)
  assert.deepEqual(await read(slow), Buffer.from(CONTENT.subarray(200)))
  assert.deepEqual(alone, [{ start: 200, end: 1_000 }])
})

test('Flow leaves alone what a reader was given until that asks for more, however far others are', async () => {
  const { attach } = make(CONTENT, 100)
  const [fast, slow] = [attach(), attach()]
  const chunk = await slow.next()
  await take(fast, 9)
  assert.deepEqual(Buffer.from(chunk ?? []), Buffer.from(CONTENT.subarray(0, 100)))
  assert.deepEqual(await read(slow), Buffer.from(CONTENT.subarray(100)))
})

test('Flow verifies what a reader gets that goes on alone', async () => {
  const wrong = Uint8Array.from(CONTENT)
  wrong[950] = 0
  const { attach, alone } = make(wrong)
  const [fast, slow] = [attach(), attach()]
  const [fastBytes, slowBytes]: Uint8Array[][] = [[], []]
  await take(fast, 5)
  await assert.rejects(read(slow, slowBytes), VerificationError)
  await assert.rejects(read(fast, fastBytes), VerificationError)
  assert.deepEqual(alone, [{ start: 0, end: 1_000 }])
  assert.ok(Buffer.concat(slowBytes ?? []).length < 1_000)
})

test('Flow keeps no more than its window whoever reads, and nothing when nobody does', async () => {
  const { flow, raw, attach, idle } = make(CONTENT, WINDOW)
  const [a, b] = [attach(), attach()]
  for (let index = 0; index < 8; index++) {
    await take(a, 1)
    assert.ok(flow.kept <= WINDOW)
  }
  await a.cancel()
  assert.equal(idle(), 0)
  await b.cancel()
  await b.cancel()
  assert.deepEqual([flow.kept, raw.cancelled, idle()], [0, true, 1])
  assert.equal(flow.attach({ start: 0, end: 10 }), undefined)
  await assert.rejects(b.next(), /cancelled/)
})

test('Flow ends when the last reader has the part that it wants', async () => {
  const { raw, attach, idle } = make(CONTENT, WINDOW)
  assert.deepEqual(await read(attach(0, 150)), Buffer.from(CONTENT.subarray(0, 150)))
  assert.deepEqual([raw.read, raw.cancelled, idle()], [2, true, 1])
})

test('Flow takes on a reader that is not far ahead, which waits for it, and none that is', async () => {
  const large = 9 * 1024 * 1024
  const raw = sourceOf(cut(new Uint8Array(large), 1024 * 1024))
  const span = { start: 0, end: large }
  const alone = () => assert.fail('nobody goes on alone')
  const window = () => large
  const flow = createFlow({
    source: raw,
    span,
    alone,
    window,
    onRetire: () => undefined,
  })
  const first = flow.attach(span) ?? assert.fail('no reader')
  const near = flow.attach({ start: 8 * 1024 * 1024, end: large }) ?? assert.fail('not near enough')
  assert.equal(flow.attach({ start: 8 * 1024 * 1024 + 1, end: large }), undefined)
  assert.equal((await read(near)).length, 1024 * 1024)
  // This reader has driven the flow; the one behind it finds everything there.
  assert.equal(raw.read, 9)
  assert.equal((await read(first)).length, large)
  assert.equal(raw.read, 9)
})

test('Flow with one reader keeps nothing beyond its window, takes no more on, and hands on chunks as they are', async () => {
  const { flow, attach, idle } = make(CONTENT, WINDOW)
  const lone = attach()
  await take(lone, 3)
  assert.deepEqual([flow.kept, idle()], [300, 0])
  const chunk = await lone.next()
  assert.deepEqual([flow.kept, idle(), flow.attach({ start: 400, end: 1_000 })], [0, 1, undefined])
  assert.deepEqual(Buffer.from(chunk ?? []), Buffer.from(CONTENT.subarray(300, 400)))
  assert.deepEqual(await read(lone), Buffer.from(CONTENT.subarray(400)))
})

test('Flow verifies what its only reader gets', async () => {
  const wrong = Uint8Array.from(CONTENT)
  wrong[950] = 0
  const { attach } = make(wrong, WINDOW)
  const received: Uint8Array[] = []
  await assert.rejects(read(attach(), received), VerificationError)
  assert.equal(Buffer.concat(received).length, 900)
})

test('Flow tells all readers when its source fails', async () => {
  const source = new TestSource()
  const flow = ofSource(source)
  const readers = [flow.attach({ start: 0, end: 10 }), flow.attach({ start: 0, end: 10 })]
  const reading = readers.map((reader) => read(reader ?? null))
  await waitFor('a chunk is asked for', () => source.asked === 1)
  source.fail(new Error('no peer left'))
  for (const one of reading) await assert.rejects(within('the end', one), /no peer left/)
  await assert.rejects(read(readers[0] ?? null), /no peer left/)
  assert.equal(flow.attach({ start: 0, end: 10 }), undefined)
  assert.equal(source.asked, 1)
})

test('Flow lets a reader that is left alone wait for what one that has left had begun to read', async () => {
  let chunks = Promise.withResolvers<Uint8Array>()
  let reads = 0
  const next = async () => {
    assert.equal(++reads, 1, 'one at a time')
    const chunk = await chunks.promise
    reads--
    chunks = Promise.withResolvers()
    return chunk
  }
  const flow = ofSource({ next, cancel: async () => undefined }, 1)
  const [one, other] = [0, 1].map(() => flow.attach({ start: 0, end: 10 }) ?? assert.fail())
  assert.ok(one !== undefined && other !== undefined)
  const both = [one.next(), other.next()]
  chunks.resolve(new Uint8Array([0, 1, 2]))
  await Promise.all(both)
  void one.next().catch(() => undefined)
  await one.cancel()
  const waiting = other.next()
  chunks.resolve(new Uint8Array([3, 4]))
  assert.deepEqual(await waiting, new Uint8Array([3, 4]))
  const alone = other.next()
  chunks.resolve(new Uint8Array([5]))
  assert.deepEqual(await alone, new Uint8Array([5]))
})

test('Flow ends a reader that waits when it is cancelled, and its source with it', async () => {
  const source = new TestSource()
  const flow = ofSource(source)
  const reader = flow.attach({ start: 0, end: 10 })
  const reading = read(reader ?? null)
  await waitFor('a chunk is asked for', () => source.asked === 1)
  await reader?.cancel()
  await assert.rejects(within('the end', reading), inTime)
  assert.equal(source.cancelled, true)
})

test('Flow gives every reader exactly its bytes, which stay until it asks for more, in whatever order they read, attach and leave', async () => {
  const step = fc.record({
    reader: fc.nat(3),
    action: fc.constantFrom('read', 'read', 'read', 'read', 'attach', 'cancel'),
    start: fc.nat(CONTENT.length),
    length: fc.integer({ min: 1, max: CONTENT.length }),
  })
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 80 }), fc.integer({ min: 50, max: 600 }), async (steps, window) => {
      const { flow, raw, attach } = make(CONTENT, window)
      const readers = new Map<number, { source: ByteSource; start: number; end: number; bytes: number }>()
      const held = new Map<number, { chunk: Uint8Array; at: number; end: number }>()
      const keeper = attach()
      for (const { reader: name, action, start, length } of steps) {
        const reader = readers.get(name)
        if (action === 'attach' && reader === undefined) {
          const from = start % 3 === 0 ? 0 : start
          const end = Math.min(from + length, CONTENT.length)
          const source = flow.attach({ start: from, end })
          if (source !== undefined) readers.set(name, { source, start: from, end, bytes: 0 })
        } else if (action === 'read') {
          const chunk = await (reader?.source ?? keeper).next()
          if (reader === undefined) continue
          const at = reader.start + reader.bytes
          if (chunk === undefined) {
            assert.equal(at, reader.end)
            held.delete(name)
          } else held.set(name, { chunk, at, end: at + chunk.length })
          reader.bytes += chunk?.length ?? 0
          assert.ok(reader.start + reader.bytes <= reader.end)
        } else if (action === 'cancel') {
          await reader?.source.cancel()
          readers.delete(name)
          held.delete(name)
        }
        for (const { chunk, at, end } of held.values()) {
          assert.ok(Buffer.from(chunk).equals(CONTENT.subarray(at, end)))
        }
        assert.ok(flow.kept <= Math.max(window, 100))
        // A reader that is left alone also reads the end.
        assert.ok(raw.read <= 11)
      }
      for (const { source, start, end, bytes } of readers.values()) {
        assert.deepEqual(await read(source), Buffer.from(CONTENT.subarray(start + bytes, end)))
      }
      await keeper.cancel()
      assert.equal(flow.kept, 0)
    }),
    { numRuns: 200 },
  )
})
