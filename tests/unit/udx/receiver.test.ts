import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { seqAdd } from '../../../lib/udx/packet.ts'
import { CAPACITY, Receiver } from '../../../lib/udx/receiver.ts'

/** A receiver whose first packet has the number `start`, with a reader that takes everything, or as much as `wants` says. */
function create(start = 0, wants = () => true) {
  const read = { bytes: [] as Uint8Array[], ends: 0 }
  const receiver = new Receiver({
    data: (bytes) => {
      read.bytes.push(bytes)
      return wants()
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
      assert.equal(receiver.window, CAPACITY)
    }),
  )
})

test('receiver offers the room that is free, and takes no more than that', () => {
  const { receiver, read } = create(0, () => false)
  const size = CAPACITY / 64
  receiver.accept(0, packet(0, size), false)
  assert.equal(receiver.window, CAPACITY, 'the reader has taken what was in order')
  for (let i = 1; i < 70; i++) receiver.accept(i, packet(i, size), false)
  assert.deepEqual([receiver.window, receiver.ack], [0, 65], 'and takes no more')
  receiver.resume()
  assert.equal(receiver.window, size)
  receiver.accept(65, packet(65, size), false)
  assert.equal(receiver.ack, 66)
  for (let i = 66; i < 70; i++) {
    receiver.resume()
    receiver.accept(i, packet(i, size), false)
  }
  for (let i = 0; i < 64; i++) receiver.resume()
  assert.deepEqual(
    read.bytes.map(([first]) => first),
    Array.from({ length: 70 }, (_, i) => i + 1),
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
