import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { OutgoingPacket } from '../../../lib/udx/outgoing.ts'
import { createHeader, FLAG_SACK, HEADER_SIZE, seqAdd, writeHeader, writeSacks } from '../../../lib/udx/packet.ts'
import { Scoreboard } from '../../../lib/udx/scoreboard.ts'

const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const route = { socket: { transmit: () => undefined }, remoteId: 1, port: 1, host: '127.0.0.1' }

/** A scoreboard with `count` packets in flight, of which the first has the number `first`, and what it says is delivered. */
function create(first: number, count: number) {
  const board = new Scoreboard()
  board.startAt(first)
  for (let i = 0; i < count; i++) {
    const packet = new OutgoingPacket(board.next, Buffer.alloc(HEADER_SIZE), route, i, 0)
    board.add(packet)
    board.fly(packet)
  }
  const delivered: number[] = []
  return {
    board,
    delivered,
    /** Handles an acknowledgement. Its ranges are flat pairs. */
    acknowledge(ack: number, ranges: readonly number[]) {
      const packet = Buffer.alloc(HEADER_SIZE + ranges.length * 4)
      const header = { ...createHeader(), flags: FLAG_SACK, ack }
      writeHeader(packet, header)
      writeSacks(packet, ranges, 0, ranges.length / 2)
      board.acknowledge(header, packet, ({ streamOffset }) => delivered.push(streamOffset))
    },
  }
}

test('Scoreboard believes ascending SACK ranges within what is under way, and nothing else', () => {
  const near = fc.integer({ min: -20, max: 120 })
  const claim = fc.record(
    { ack: fc.nat(10), ranges: fc.array(fc.tuple(fc.oneof(near, u32), fc.oneof(near, u32)), { maxLength: 8 }) },
    { noNullPrototype: true },
  )
  fc.assert(
    fc.property(u32, fc.nat(100), fc.array(claim, { maxLength: 20 }), (first, count, claims) => {
      const { board, delivered, acknowledge } = create(first, count)
      const expected: number[] = []
      const deliver = (i: number) => expected.includes(i) || expected.push(i)
      let unacked = 0
      for (const { ack, ranges } of claims) {
        const flat = ranges.flat().map((offset) => seqAdd(first, unacked + offset))
        const acked = Math.min(ack, count - unacked)
        acknowledge(seqAdd(first, unacked + acked), flat)
        let handled = 0
        for (const [start, end] of ranges) {
          if (start < handled || end <= start || end > count - unacked) continue
          for (let i = start; i < end; i++) deliver(unacked + i)
          handled = end
        }
        for (let i = 0; i < acked; i++) deliver(unacked + i)
        unacked += acked
      }
      assert.deepEqual(delivered, expected)
      assert.equal(board.flight.length, count - expected.length)
      assert.equal(board.sacked, expected.filter((i) => i >= unacked).length)
    }),
  )
})

test('Scoreboard spends nothing on ranges of a billion numbers', () => {
  const { board, acknowledge } = create(7, 10)
  const numbers = [0, 6, 7, 17, 18, 0x3fff_ffff, 0x7fff_fff0, 0x8000_0000, 0xbfff_ffff, 0xffff_ffff]
  // Each of these took seconds when the numbers of a range were counted through.
  for (const start of numbers) for (const end of numbers) acknowledge(7, Array(50).fill([start, end]).flat())
  assert.equal(board.sacked, 10)
})
