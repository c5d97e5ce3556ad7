import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { seqAdd } from '../../../lib/udx/packet.ts'
import { Receiver } from '../../../lib/udx/receiver.ts'

/** A receiver whose first packet has the number `start`, and what it has read. */
function create(start = 0) {
  const read = { bytes: [] as Uint8Array[], ends: 0 }
  const receiver = new Receiver({
    data: (bytes) => {
      read.bytes.push(bytes)
    },
    end: () => {
      read.ends++
    },
  })
  receiver.ack = start
  return { receiver, read }
}

const packet = (n: number, size = 8) => Buffer.alloc(size, n + 1)

test('receiver puts packets into their order, whatever order they come in and however often, and acknowledges no hole', () => {
  const orders = fc
    .integer({ min: 1, max: 60 })
    .chain((count) =>
      fc.tuple(
        fc.constant(count),
        fc.shuffledSubarray([...Array(count).keys()], { minLength: count, maxLength: count }),
        fc.array(fc.nat(count - 1), { maxLength: 60 }),
        fc.constantFrom(0, 1000, 0xffff_fff0, 0x7fff_fff0),
      ),
    )
  fc.assert(
    fc.property(orders, ([count, order, extra, start]) => {
      const { receiver, read } = create(start)
      const arrived = new Set<number>()
      for (const i of order.flatMap((i, at) => [i, extra[at] ?? i])) {
        const isEnd = i === count - 1
        receiver.accept(seqAdd(start, i), isEnd ? Buffer.alloc(0) : packet(i, 1 + (i % 7)), isEnd)
        arrived.add(i)
        let next = 0
        while (arrived.has(next)) next++
        assert.equal(receiver.ack, seqAdd(start, next))
      }
      const expected = Buffer.concat(Array.from({ length: count - 1 }, (_, i) => packet(i, 1 + (i % 7))))
      assert.ok(Buffer.concat(read.bytes).equals(expected))
      assert.equal(read.ends, 1)
    }),
  )
})

test('receiver keeps nothing that is far ahead, or larger than what a network carries', () => {
  const { receiver } = create()
  receiver.accept(0, packet(1, 1_501), false)
  receiver.accept(1, packet(1, 60_000), false)
  assert.equal(receiver.ack, 0)
  for (const seq of [64, 1_000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff]) receiver.accept(seq, packet(1), false)
  for (let i = 0; i < 64; i++) receiver.accept(i, packet(i), false)
  assert.equal(receiver.ack, 64)
})

test('receiver takes nothing behind the end', () => {
  const { receiver, read } = create()
  for (const i of [3, 2]) receiver.accept(i, packet(i), false)
  receiver.accept(1, packet(1), true)
  receiver.accept(0, packet(0), false)
  for (const i of [2, 3]) receiver.accept(i, packet(i), true)
  assert.deepEqual([receiver.ack, read.ends, Buffer.concat(read.bytes).length], [2, 1, 16])
})
