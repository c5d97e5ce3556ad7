import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  formatContentRange,
  formatUnsatisfiedRange,
  lengthOf,
  parseContentRange,
  parseRange,
  shortRange,
} from '../../../lib/oci/range.ts'

const WHOLE = 'whole'
const UNSATISFIABLE = 'unsatisfiable'

for (const [header, size, expected] of [
  [null, 10, WHOLE],
  ['bytes=0-', 10, WHOLE],
  ['bytes=3-', 10, [3, 9]],
  ['bytes=9-', 10, [9, 9]],
  ['bytes=10-', 10, UNSATISFIABLE],
  ['bytes=0-0', 10, [0, 0]],
  ['bytes=2-5', 10, [2, 5]],
  ['bytes=2-9', 10, [2, 9]],
  ['bytes=2-10', 10, [2, 9]],
  ['bytes=2-99999999999999999999999999', 10, [2, 9]],
  ['bytes=99999999999999999999999999-', 10, UNSATISFIABLE],
  ['bytes=10-20', 10, UNSATISFIABLE],
  ['bytes=-1', 10, [9, 9]],
  ['bytes=-10', 10, [0, 9]],
  ['bytes=0-9', 10, [0, 9]],
  ['bytes=-11', 10, [0, 9]],
  ['bytes=-0', 10, UNSATISFIABLE],
  ['bytes=-0', 0, UNSATISFIABLE],
  ['bytes=-5', 0, WHOLE],
  ['bytes=0-', 0, WHOLE],
  ['bytes=0-5', 0, WHOLE],
  ['bytes=1-', 0, UNSATISFIABLE],
  ['BYTES=1-2', 10, [1, 2]],
  ['bytes= 1-2 ', 10, [1, 2]],
  ['bytes=,1-2,', 10, [1, 2]],
  ['bytes=007-008', 10, [7, 8]],
  // Several ranges, other units and what is no range at all are ignored.
  ['bytes=0-1,3-4', 10, WHOLE],
  ['bytes=0-1, -1', 10, WHOLE],
  ['bytes=0-1,x', 10, WHOLE],
  ['bytes=5-2', 10, WHOLE],
  ['bytes=', 10, WHOLE],
  ['bytes=-', 10, WHOLE],
  ['bytes=1', 10, WHOLE],
  ['bytes=a-b', 10, WHOLE],
  ['bytes=1-2-3', 10, WHOLE],
  ['bytes=--1', 10, WHOLE],
  ['bytes=+1-2', 10, WHOLE],
  ['bytes=1.5-2', 10, WHOLE],
  ['bytes=0x1-2', 10, WHOLE],
  ['bytes=1e1-', 100, WHOLE],
  ['bytes=1 - 2', 10, WHOLE],
  ['bytes =1-2', 10, WHOLE],
  ['bytes 1-2', 10, WHOLE],
  ['items=1-2', 10, WHOLE],
  ['', 10, WHOLE],
] as const) {
  test(`parseRange reads ${JSON.stringify(header)} of ${size} bytes`, () => {
    const result = parseRange(header, size)
    if (typeof expected === 'string') assert.deepEqual(result, { kind: expected })
    else assert.deepEqual(result, { kind: 'part', range: { start: expected[0], end: expected[1] } })
  })
}

test('parseRange takes the bytes that slice takes', () => {
  const bytes = Uint8Array.from({ length: 50 }, (_, index) => index)
  const position = fc.integer({ min: 0, max: 60 })
  fc.assert(
    fc.property(position, fc.option(position), (first, last) => {
      const result = parseRange(`bytes=${first}-${last ?? ''}`, bytes.length)
      if (last === null ? first === 0 : last < first) return assert.deepEqual(result, { kind: 'whole' })
      const expected = bytes.slice(first, last === null ? undefined : last + 1)
      if (result.kind !== 'part') return assert.deepEqual([result.kind, expected.length], ['unsatisfiable', 0])
      assert.deepEqual(bytes.slice(result.range.start, result.range.end + 1), expected)
      assert.equal(lengthOf(result.range), expected.length)
    }),
  )
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 60 }), (length) => {
      const result = parseRange(`bytes=-${length}`, bytes.length)
      assert.ok(result.kind === 'part')
      assert.deepEqual(bytes.slice(result.range.start, result.range.end + 1), bytes.slice(-length))
    }),
  )
})

const garbage = fc.oneof(
  fc.string(),
  fc
    .array(fc.constantFrom('bytes', '=', '-', ',', ' ', '/', '*', '0', '1', '9', '99999999999999999999', '\t', 'a'))
    .map((pieces) => pieces.join('')),
)

test('parseRange gives only parts that lie within the content, whatever it is given', () => {
  const header = fc.oneof(
    garbage,
    garbage.map((text) => `bytes=${text}`),
  )
  fc.assert(
    fc.property(header, fc.nat(), (text, size) => {
      const result = parseRange(text, size)
      if (result.kind !== 'part') return
      const { start, end } = result.range
      assert.ok(Number.isSafeInteger(start) && Number.isSafeInteger(end))
      assert.ok(0 <= start && start <= end && end < size)
    }),
    { numRuns: 1000 },
  )
})

test('shortRange asks for the same in few characters', () => {
  const blanks = fc.string({ unit: fc.constantFrom(' ', '\t', ','), maxLength: 40 })
  const digits = fc.oneof(fc.string({ unit: fc.constantFrom('0', '1', '9'), maxLength: 40 }), fc.constant(''))
  const header = fc.oneof(
    garbage.map((text) => `bytes=${text}`),
    fc
      .tuple(blanks, digits, digits, blanks)
      .map(([before, first, last, after]) => `bytes=${before}${first}-${last}${after}`),
  )
  fc.assert(
    fc.property(header, fc.maxSafeNat(), (text, size) => {
      const short = shortRange(text)
      assert.deepEqual(parseRange(short ?? null, size), parseRange(text, size))
      assert.ok((short ?? '').length <= 'bytes=9007199254740991-9007199254740991'.length)
    }),
    { numRuns: 1000 },
  )
  assert.equal(shortRange(null), undefined)
})

test('parseRange takes no time for a header that is long', () => {
  const since = performance.now()
  const [blanks, empty] = [' '.repeat(100_000), ', '.repeat(50_000)]
  assert.deepEqual(parseRange(`bytes=1${blanks}x`, 10), { kind: 'whole' })
  assert.deepEqual(parseRange(`bytes=1-2${blanks}x`, 10), { kind: 'whole' })
  assert.deepEqual(parseRange(`bytes=${empty}1-2${blanks}`, 10), { kind: 'part', range: { start: 1, end: 2 } })
  // Trimmed in square time it was half a minute.
  assert.ok(performance.now() - since < 5_000)
})

test('parseContentRange gives back what formatContentRange and formatUnsatisfiedRange write', () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.maxSafeNat(), fc.maxSafeNat(), (...numbers) => {
      const [start, end, size] = numbers.toSorted((a, b) => a - b) as [number, number, number]
      fc.pre(end < size)
      const expected = { kind: 'part', range: { start, end }, size }
      assert.deepEqual(parseContentRange(formatContentRange({ start, end }, size)), expected)
      assert.deepEqual(parseContentRange(formatUnsatisfiedRange(size)), { kind: 'unsatisfied', size })
    }),
  )
})

test('parseContentRange reads a part of content of unknown size', () => {
  assert.deepEqual(parseContentRange('bytes 1-2/*'), { kind: 'part', range: { start: 1, end: 2 }, size: undefined })
})

test('parseContentRange is undefined for what makes no sense, and throws nothing', () => {
  for (const text of [
    ...[null, '', 'bytes', 'bytes */*', 'bytes 5-2/10', 'bytes 0-10/10', 'bytes=0-1/2', 'items 0-1/2', 'bytes 0-/2'],
    ...['bytes -1/2', 'bytes 0-1/99999999999999999999', 'bytes 0-99999999999999999999/*', 'bytes 0-1/2/3', 'bytes 0-1'],
  ]) {
    assert.equal(parseContentRange(text), undefined, String(text))
  }
  fc.assert(
    fc.property(
      fc.oneof(
        garbage,
        garbage.map((text) => `bytes ${text}`),
      ),
      (text) => {
        const result = parseContentRange(text)
        if (result?.kind !== 'part') return
        assert.ok(
          result.range.start <= result.range.end && result.range.end < (result.size ?? Number.MAX_SAFE_INTEGER + 1),
        )
      },
    ),
    { numRuns: 1000 },
  )
})
