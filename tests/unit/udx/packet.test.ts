import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import {
  createPacket,
  FLAG_DATA,
  FLAG_SACK,
  HEADER_SIZE,
  payloadOf,
  readHeader,
  seqAdd,
  seqDiff,
} from '../../../lib/udx/packet.ts'

const u8 = fc.integer({ min: 0, max: 255 })
const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const header = fc.record({ flags: u8, id: u32, seq: u32, ack: u32 }, { noNullPrototype: true })
const NOTHING = { flags: 0, id: 0, seq: 0, ack: 0 }

test('a packet that is written reads as it was', () => {
  fc.assert(
    fc.property(header, fc.uint8Array({ minLength: 1, maxLength: 50 }), (written, payload) => {
      const packet = createPacket(written, payload)
      assert.deepEqual(readHeader(packet), written)
      const hasPayload = (written.flags & FLAG_SACK) === 0
      assert.deepEqual(Buffer.from(payloadOf(packet) ?? []), Buffer.from(hasPayload ? payload : []))
    }),
  )
})

test('a packet is laid out as by the addon', () => {
  const packet = createPacket({ flags: 5, id: 0x01020304, seq: 7, ack: 0xfffffffe })
  assert.equal(Buffer.from(packet).toString('hex'), 'ff0105000403020100004000' + '07000000feffffff')
})

test('what is too short, or of another protocol or version, is no packet', () => {
  const packet = createPacket(NOTHING)
  for (let length = 0; length < HEADER_SIZE; length++) assert.equal(readHeader(packet.subarray(0, length)), undefined)
  for (const [at, value] of [
    [0, 0xfe],
    [1, 0],
    [1, 2],
  ] as const) {
    const other = Buffer.from(packet)
    other[at] = value
    assert.equal(readHeader(other), undefined)
  }
})

test('a payload begins behind padding and SACK ranges, and no packet is read beyond its end', () => {
  const packet = Buffer.concat([createPacket({ ...NOTHING, flags: FLAG_DATA }), Buffer.alloc(40, 7)])
  packet[3] = 32
  assert.deepEqual(payloadOf(packet)?.length, 8)
  assert.equal(payloadOf(packet.subarray(0, HEADER_SIZE + 31)), undefined)
  fc.assert(
    fc.property(fc.uint8Array({ minLength: HEADER_SIZE, maxLength: 600 }), (bytes) => {
      bytes.set([0xff, 1])
      assert.ok(readHeader(bytes) !== undefined)
      assert.ok((payloadOf(bytes)?.length ?? 0) <= bytes.length - HEADER_SIZE)
    }),
  )
})

test('seq arithmetic wraps: what is added is the difference', () => {
  fc.assert(
    fc.property(u32, fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff }), (seq, n) => {
      const other = seqAdd(seq, n)
      assert.ok(other >= 0 && other <= 0xffff_ffff)
      assert.equal(seqDiff(other, seq), n)
    }),
  )
})
