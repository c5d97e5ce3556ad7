import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  createHeader,
  FLAG_DATA,
  FLAG_SACK,
  HEADER_SIZE,
  MAX_SACK_RANGES,
  payloadStart,
  readHeader,
  readSacks,
  refreshHeader,
  rewriteId,
  writeHeader,
  writeSacks,
} from '../../../lib/udx/packet.ts'

const u8 = fc.integer({ min: 0, max: 255 })
const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const header = fc.record(
  { flags: u8, dataOffset: u8, id: u32, rwnd: u32, seq: u32, ack: u32 },
  { noNullPrototype: true },
)

function sacksOf(packet: Buffer): [number, number][] {
  const into = createHeader()
  assert.ok(readHeader(packet, into))
  const found: [number, number][] = []
  readSacks(packet, into, (start, end) => found.push([start, end]))
  return found
}

test('readHeader reads what writeHeader has written', () => {
  fc.assert(
    fc.property(header, (written) => {
      const packet = Buffer.alloc(HEADER_SIZE)
      writeHeader(packet, written)
      const read = createHeader()
      assert.ok(readHeader(packet, read))
      assert.deepEqual(read, written)
    }),
  )
})

test('writeHeader lays a packet out as the addon does', () => {
  const packet = Buffer.alloc(HEADER_SIZE)
  writeHeader(packet, { flags: 5, dataOffset: 16, id: 0x01020304, rwnd: 0x400000, seq: 7, ack: 0xfffffffe })
  assert.equal(packet.toString('hex'), 'ff01051004030201000040000' + '7000000feffffff')
})

test('readHeader refuses what is too short, or of another protocol or version', () => {
  const packet = Buffer.alloc(HEADER_SIZE)
  writeHeader(packet, createHeader())
  for (let length = 0; length < HEADER_SIZE; length++)
    assert.equal(readHeader(packet.subarray(0, length), createHeader()), false)
  for (const [at, value] of [
    [0, 0xfe],
    [1, 0],
    [1, 2],
  ] as const) {
    const other = Buffer.from(packet)
    other[at] = value
    assert.equal(readHeader(other, createHeader()), false)
  }
})

test('packet parsing never throws and never reads a payload beyond the end, whatever the bytes', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), fc.boolean(), (bytes, disguised) => {
      const packet = Buffer.from(bytes)
      if (disguised && packet.length > 1) packet.set([0xff, 1])
      const into = createHeader()
      if (!readHeader(packet, into)) return
      const start = payloadStart(into, packet.length)
      assert.ok(start === -1 || (start >= HEADER_SIZE && start <= packet.length))
      let ranges = 0
      readSacks(packet, into, (from, to) => {
        ranges++
        assert.ok(((to - from) | 0) > 0)
      })
      assert.ok(ranges <= MAX_SACK_RANGES)
    }),
    { numRuns: 2_000 },
  )
})

test('readSacks reads what writeSacks has written, in a pure acknowledgement and before a payload', () => {
  fc.assert(
    fc.property(
      fc.array(u32, { minLength: 2, maxLength: 2 * MAX_SACK_RANGES }),
      fc.boolean(),
      (numbers, withPayload) => {
        const ranges = numbers
          .slice(0, numbers.length & ~1)
          .map((n, i) => (i % 2 ? ((numbers[i - 1] as number) + 1 + (n % 1000)) >>> 0 : n))
        const count = withPayload ? Math.min(31, ranges.length / 2) : ranges.length / 2
        const packet = Buffer.alloc(HEADER_SIZE + count * 8 + (withPayload ? 9 : 0), 0xee)
        const dataOffset = withPayload ? count * 8 : 0
        writeHeader(packet, { ...createHeader(), flags: FLAG_SACK | (withPayload ? FLAG_DATA : 0), dataOffset })
        assert.equal(writeSacks(packet, ranges, 0, count), HEADER_SIZE + count * 8)
        assert.deepEqual(sacksOf(packet).flat(), ranges.slice(0, count * 2))
        const into = createHeader()
        readHeader(packet, into)
        assert.equal(payloadStart(into, packet.length), HEADER_SIZE + count * 8)
      },
    ),
  )
})

test('payloadStart skips padding, and refuses an offset beyond the packet', () => {
  const probe = { ...createHeader(), flags: FLAG_DATA, dataOffset: 32 }
  assert.equal(payloadStart(probe, HEADER_SIZE + 40), HEADER_SIZE + 32)
  assert.equal(payloadStart(probe, HEADER_SIZE + 32), HEADER_SIZE + 32)
  assert.equal(payloadStart(probe, HEADER_SIZE + 31), -1)
})

test('refreshHeader and rewriteId change nothing else', () => {
  fc.assert(
    fc.property(header, u32, u32, u32, (written, rwnd, ack, id) => {
      const packet = Buffer.alloc(HEADER_SIZE + 4, 0x55)
      writeHeader(packet, written)
      refreshHeader(packet, rwnd, ack)
      rewriteId(packet, id)
      const read = createHeader()
      readHeader(packet, read)
      assert.deepEqual(read, { ...written, rwnd, ack, id })
      assert.equal(packet.toString('hex', HEADER_SIZE), '55555555')
    }),
  )
})
