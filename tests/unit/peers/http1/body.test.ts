import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ChunkDecoder, MessageBody } from '../../../../lib/peers/http1/body.ts'
import { ProtocolError, TruncatedError } from '../../../../lib/peers/http1/error.ts'
import { cut, sourceOf } from '../../../doubles/byte-source.ts'
import { read } from '../../../doubles/http-peers.ts'
import { waitFor } from '../../../fixtures/wait.ts'

const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, 'latin1'))

/** Takes the body out of chunks that come in parts which end at these places, and then the end of the connection. */
function chunked(text: string, places: readonly number[] = []): { data: string; rest: string } {
  const decoder = new ChunkDecoder()
  const bytes: Uint8Array = bytesOf(text)
  const ends = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b)
  const data: Uint8Array[] = []
  let start = 0
  for (const end of [...ends, bytes.length]) {
    let rest = bytes.subarray(start, end)
    while (rest.length > 0 && !decoder.done) {
      const found = decoder.decode(rest)
      data.push(found.data)
      assert.ok(found.rest.length < rest.length, 'it takes something at each step')
      rest = found.rest
    }
    start = end - rest.length
    if (decoder.done) break
  }
  if (!decoder.done) throw new TruncatedError('the connection ended before the last chunk')
  return { data: Buffer.concat(data).toString('latin1'), rest: Buffer.from(bytes.subarray(start)).toString('latin1') }
}

/** The body of so many bytes in what comes over a connection, and whether the connection can be used again. */
async function bodyOf(sent: string, length: number, isChunked: boolean, size = 7) {
  const usable: boolean[] = []
  const [first = new Uint8Array(), ...more] = cut(bytesOf(sent), size)
  const options = { rest: first, discardTimeout: 1_000, over: (isUsable: boolean) => usable.push(isUsable) }
  const body = new MessageBody(sourceOf(more), { length, isChunked }, options)
  const result = await read(body).then(String, ({ cause }) => cause)
  await body.cancel()
  await waitFor('the connection is not needed any more', () => usable.length > 0)
  return { result, usable }
}

const places = fc.array(fc.nat(), { maxLength: 12 })
const body = fc.uint8Array({ minLength: 1, maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString('latin1'))

test('MessageBody gives as many bytes as declared, wherever they are cut, or an error', async () => {
  const text = fc.string({ maxLength: 50, unit: 'binary-ascii' })
  await fc.assert(
    fc.asyncProperty(text, fc.nat(60), fc.integer({ min: 1, max: 9 }), async (sent, length, size) => {
      const { result, usable } = await bodyOf(sent, length, false, size)
      if (sent.length < length) assert.ok(result instanceof TruncatedError)
      else assert.equal(result, sent.slice(0, length))
      // What follows was not asked for, if it is seen.
      if (sent.length < length) assert.deepEqual(usable, [false])
      else if (sent.length === length) assert.deepEqual(usable, [true])
    }),
  )
})

test('MessageBody gives what is in chunks only if it is as long as declared', async () => {
  const sent = '5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n'
  for (const size of [1, 4, 100]) {
    assert.deepEqual(await bodyOf(sent, 11, true, size), { result: 'hello world', usable: [true] })
    const shorter = await bodyOf(sent, 10, true, size)
    assert.ok(shorter.result instanceof ProtocolError || shorter.result === 'hello worl')
    assert.deepEqual(shorter.usable, [false])
    const longer = await bodyOf(sent, 12, true, size)
    assert.ok(longer.result instanceof TruncatedError)
    assert.deepEqual(longer.usable, [false])
    assert.ok((await bodyOf(sent.slice(0, 18), 11, true, size)).result instanceof TruncatedError)
  }
  // A reader that has all that it was promised hears nothing of what follows.
  assert.deepEqual(await bodyOf('5\r\nhello\r\nnonsense', 5, true, 10), { result: 'hello', usable: [false] })
})

test('ChunkDecoder puts chunks together, wherever they are cut, and leaves what follows', () => {
  const extension = fc.constantFrom('', ';a=b', ' ;a="b;c"')
  const trailers = fc.constantFrom('', 'X-Sum: 1\r\n', 'A: b\r\nC: d\r\n')
  fc.assert(
    fc.property(fc.array(fc.tuple(body, extension)), trailers, places, (parts, trailer, cuts) => {
      const sent = parts.map(([text, more]) => `${text.length.toString(16)}${more}\r\n${text}\r\n`).join('')
      const all = parts.map(([text]) => text).join('')
      const { data, rest } = chunked(`${sent}000\r\n${trailer}\r\nnext`, cuts)
      assert.deepEqual([data, rest], [all, 'next'])
    }),
  )
})

test('ChunkDecoder takes chunks for complete only with the last one and the empty line', () => {
  const whole = '5\r\nhello\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n'
  assert.equal(chunked(whole).data, 'hello0123456789')
  for (let length = 0; length < whole.length; length++) {
    assert.throws(() => chunked(whole.slice(0, length)), TruncatedError, `${length} bytes`)
  }
})

test('ChunkDecoder refuses chunks that could be read in two ways', () => {
  for (const text of [
    'x\r\n',
    '\r\n',
    '-1\r\n',
    '+5\r\nhello\r\n0\r\n\r\n',
    '0x5\r\nhello\r\n0\r\n\r\n',
    ' 5\r\nhello\r\n0\r\n\r\n',
    '5\nhello\r\n0\r\n\r\n',
    '5\r\nhello!\r\n0\r\n\r\n',
    '5\r\nhello\n0\r\n\r\n',
    '5\r\nhello0\r\n\r\n',
    '5 5\r\nhello\r\n0\r\n\r\n',
    `5;${'a'.repeat(300)}\r\nhello\r\n0\r\n\r\n`,
    `5;${'a'.repeat(300)}`,
    `0\r\n${'X: y\r\n'.repeat(1_000)}`,
    `0\r\n${'y'.repeat(5_000)}`,
    '0\r\nX: y\n\r\n',
  ]) {
    assert.throws(() => chunked(text), ProtocolError, JSON.stringify(text.slice(0, 40)))
  }
  assert.throws(() => chunked('fffffffffffff\r\n0'), TruncatedError)
  assert.throws(() => chunked('10000000000000\r\n0'), ProtocolError)
})

test('ChunkDecoder does the same with any bytes however they are cut', () => {
  const piece = fc.oneof(
    fc.constantFrom('5', '0', 'a', '\r\n', '\r', '\n', 'hello', ';', '\0'),
    fc.string({ maxLength: 3 }),
  )
  const outcome = (text: string, cuts: readonly number[]) => {
    try {
      return chunked(text, cuts)
    } catch (error) {
      assert.ok(error instanceof ProtocolError || error instanceof TruncatedError, String(error))
      return error.name
    }
  }
  fc.assert(
    fc.property(fc.array(piece, { maxLength: 15 }), places, (pieces, cuts) => {
      const text = pieces.join('')
      assert.deepEqual(outcome(text, cuts), outcome(text, []))
    }),
    { numRuns: 1_000 },
  )
})
