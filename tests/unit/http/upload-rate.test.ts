import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createUploadRate } from '../../../lib/http/upload-rate.ts'

/** A clock whose time passes only while somebody waits. */
function clock() {
  let time = 0
  const waits: number[] = []
  return {
    waits,
    options: {
      now: () => time,
      after: (milliseconds: number, run: () => void) => {
        waits.push(milliseconds)
        time += milliseconds
        queueMicrotask(run)
        return () => undefined
      },
    },
    elapsed: () => time,
    pass: (milliseconds: number) => {
      time += milliseconds
    },
  }
}

/** A response whose body comes in chunks of the given sizes, each with its own byte. */
function responseOf(sizes: readonly number[], cancelled: () => void = () => undefined): Response {
  let at = 0
  const body = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        const size = sizes[at]
        if (size === undefined) return controller.close()
        controller.enqueue(new Uint8Array(size).fill(at++))
      },
      cancel: cancelled,
    },
    { highWaterMark: 0 },
  )
  return new Response(body, { status: 206, headers: { 'x-kept': 'yes' } })
}

test('upload rate keeps head and bytes as they are, and takes the time that they need', async () => {
  const { options, elapsed } = clock()
  const limited = createUploadRate(1_000_000, options).limit(responseOf([700_000, 1, 299_999]))
  assert.equal(limited.status, 206)
  assert.equal(limited.headers.get('x-kept'), 'yes')
  const bytes = new Uint8Array(await limited.arrayBuffer())
  assert.equal(bytes.length, 1_000_000)
  assert.deepEqual([bytes[0], bytes[699_999], bytes[700_000], bytes[700_001], bytes.at(-1)], [0, 0, 1, 2, 2])
  // One second, minus the burst of 50 ms.
  assert.ok(elapsed() > 900 && elapsed() <= 1_000, `${elapsed()} ms`)
})

test('upload rate is for all bodies together', async () => {
  const { options, elapsed } = clock()
  const rate = createUploadRate(1_000_000, options)
  const sizes = await Promise.all(
    [1, 2, 3, 4].map(async () => (await rate.limit(responseOf([250_000])).arrayBuffer()).byteLength),
  )
  assert.deepEqual(sizes, [250_000, 250_000, 250_000, 250_000])
  assert.ok(elapsed() > 900, `${elapsed()} ms`)
})

test('upload rate lets each of 64 bodies send something within a second', async () => {
  const { options, elapsed } = clock()
  const rate = createUploadRate(1_000_000, options)
  const readers = Array.from({ length: 64 }, () => rate.limit(responseOf([1_000_000])).body?.getReader())
  for (let round = 0; round < 3; round++) {
    const start = elapsed()
    for (const reader of readers) assert.ok(((await reader?.read())?.value?.length ?? 0) > 0)
    assert.ok(elapsed() - start < 1_000, `${elapsed() - start} ms`)
  }
  await Promise.all(readers.map((reader) => reader?.cancel()))
})

test('upload rate saves up no more than a moment', async () => {
  const { options, elapsed, pass } = clock()
  const rate = createUploadRate(1_000_000, options)
  pass(3_600_000)
  const start = elapsed()
  await rate.limit(responseOf([1_000_000])).arrayBuffer()
  assert.ok(elapsed() - start > 900, `${elapsed() - start} ms`)
})

test('upload rate cancels the source and stops waiting when the body is cancelled', async () => {
  let cancelled = 0
  const count = () => {
    cancelled++
  }
  const reader = createUploadRate(1_000)
    .limit(responseOf([5_000, 5_000], count))
    .body?.getReader()
  await reader?.read()
  // 1,024 bytes at 1,000 a second: this one waits for about a second.
  const pending = reader?.read()
  await reader?.cancel()
  assert.equal((await pending)?.done, true)
  assert.equal(cancelled, 1)
})

test('upload rate leaves responses without a body alone', () => {
  const response = new Response(null, { status: 304 })
  assert.equal(createUploadRate(1_000).limit(response), response)
})
