import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { bodyDecoder } from '../../../../lib/peers/http1/body.ts'
import { ProtocolError, TruncatedError } from '../../../../lib/peers/http1/error.ts'
import type { Framing } from '../../../../lib/peers/http1/head.ts'

const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, 'latin1'))
const CHUNKED: Framing = { kind: 'chunked' }

/** Decodes the bytes in pieces that end at these places, then the end of the connection. */
function decode(framing: Framing, bytes: Uint8Array, places: readonly number[] = []): { data: string; rest: string } {
  const decoder = bodyDecoder(framing)
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
  if (!decoder.done) decoder.end()
  assert.ok(decoder.done)
  return { data: Buffer.concat(data).toString('latin1'), rest: Buffer.from(bytes.subarray(start)).toString('latin1') }
}

const chunked = (text: string, places?: readonly number[]) => decode(CHUNKED, bytesOf(text), places)
const places = fc.array(fc.nat(), { maxLength: 12 })
const body = fc.uint8Array({ minLength: 1, maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString('latin1'))

test('bodyDecoder takes as many bytes as declared, wherever they are cut', () => {
  fc.assert(
    fc.property(fc.string({ maxLength: 50 }), fc.nat(60), places, (text, length, cuts) => {
      const bytes = bytesOf(text)
      const run = () => decode({ kind: 'length', length }, bytes, cuts)
      if (bytes.length < length) assert.throws(run, TruncatedError)
      else assert.equal(run().data, Buffer.from(bytes.subarray(0, length)).toString('latin1'))
    }),
  )
})

test('bodyDecoder takes everything until the connection ends if nothing else is declared', () => {
  assert.deepEqual(decode({ kind: 'until-close' }, bytesOf('all of it'), [3]), { data: 'all of it', rest: '' })
})

test('bodyDecoder puts chunks together, wherever they are cut, and leaves what follows', () => {
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

test('bodyDecoder takes chunks for complete only with the last one and the empty line', () => {
  const whole = '5\r\nhello\r\nA\r\n0123456789\r\n0\r\nX: y\r\n\r\n'
  assert.equal(chunked(whole).data, 'hello0123456789')
  for (let length = 0; length < whole.length; length++) {
    assert.throws(() => chunked(whole.slice(0, length)), TruncatedError, `${length} bytes`)
  }
})

test('bodyDecoder refuses chunks that could be read in two ways', () => {
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

test('bodyDecoder does the same with any bytes however they are cut', () => {
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
