import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  bytes,
  flag,
  many,
  maybe,
  message,
  natural,
  one,
  pairs,
  text,
} from '../../../../lib/containerd/client/protobuf.ts'

const fields = {
  name: one(1, text),
  size: one(2, natural),
  isWhole: one(3, flag),
  data: one(4, bytes),
  inner: maybe(5, message({ size: one(1, natural) })),
  words: many(6, text),
  labels: pairs(1000),
}
const kind = message(fields)
const hex = (value: Uint8Array) => Buffer.from(value).toString('hex')
const nothing = kind.read(new Uint8Array())

test('a message is written as protobuf has it', () => {
  // Examples of protobuf.dev, "Encoding": 150 in field 1, "testing" in field 2, and the former inside of field 3.
  assert.equal(hex(message({ a: one(1, natural) }).write({ a: 150 })), '089601')
  assert.equal(hex(message({ b: one(2, text) }).write({ b: 'testing' })), '120774657374696e67')
  assert.equal(hex(message({ c: maybe(3, message({ a: one(1, natural) })) }).write({ c: { a: 150 } })), '1a03089601')
  assert.equal(hex(message({ m: pairs(7) }).write({ m: { a: 'b' } })), '3a060a0161120162')
  assert.equal(hex(kind.write(nothing)), '')
})

test('a message is read as it was written', () => {
  const arbitrary = fc.record({
    name: fc.string({ unit: 'grapheme' }),
    size: fc.nat({ max: Number.MAX_SAFE_INTEGER }),
    isWhole: fc.boolean(),
    data: fc.uint8Array({ maxLength: 300 }),
    inner: fc.option(fc.record({ size: fc.nat() }, { noNullPrototype: true }), { nil: undefined }),
    words: fc.array(fc.string()),
    labels: fc.dictionary(fc.string(), fc.string(), { noNullPrototype: true }),
  })
  fc.assert(
    fc.property(arbitrary, (value) => {
      const read = kind.read(kind.write(value))
      assert.deepEqual({ ...read, data: [...read.data] }, { ...value, data: [...value.data] })
    }),
  )
})

test('a message passes over fields that it does not know, of every kind', () => {
  // Field 15 as a number, of 8 bytes, with a length, of 4 bytes; a negative number; and field 1 as a number.
  const others = ['7801', `79${'00'.repeat(8)}`, '7a020000', `7d${'00'.repeat(4)}`, `78${'ff'.repeat(9)}01`, '0805']
  assert.deepEqual(kind.read(Buffer.from(`${others.join('')}1003`, 'hex')), { ...nothing, size: 3 })
})

test('a message gives a value or a RangeError for any bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array(), (value) => {
      try {
        assert.deepEqual(Object.keys(kind.read(value)), Object.keys(fields))
      } catch (error) {
        // Text that is not UTF-8 is a TypeError of the decoder.
        assert.ok(error instanceof RangeError || error instanceof TypeError, String(error))
      }
    }),
  )
  for (const wrong of ['08', '0aff', '10ffffffffffffffffff01', `10${'ff'.repeat(11)}`, '0b', '1a05089601'])
    assert.throws(() => kind.read(Buffer.from(wrong, 'hex')), wrong)
  assert.throws(() => kind.write({ ...nothing, size: -1 }), RangeError)
})

test('a label may have any name', () => {
  const { labels } = kind.read(kind.write({ ...nothing, labels: JSON.parse('{"__proto__":"a"}') }))
  assert.equal(Object.getOwnPropertyDescriptor(labels, '__proto__')?.value, 'a')
})
