import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { MAX_SACK_RANGES, seqAdd } from '../../../lib/udx/packet.ts'
import { Receiver, sackWindow } from '../../../lib/udx/receiver.ts'

/** A receiver with a reader that takes everything. */
function create(options: { capacity?: number; start?: number; wants?: () => boolean } = {}) {
  const read = { bytes: [] as Uint8Array[], ends: 0 }
  const receiver = new Receiver(
    {
      data: (bytes) => {
        read.bytes.push(bytes)
        return options.wants?.() ?? true
      },
      end: () => {
        read.ends++
      },
    },
    options.capacity,
  )
  if (options.start !== undefined) receiver.ack = options.start
  return { receiver, read }
}

const packet = (n: number, size = 8) => Buffer.alloc(size, n + 1)

test('receiver puts packets into their order, whatever order they come in and however often, and says exactly what is missing', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 120 }).chain((count) =>
        fc.tuple(
          fc.constant(count),
          fc.shuffledSubarray(
            Array.from({ length: count }, (_, i) => i),
            { minLength: count, maxLength: count },
          ),
          fc.array(fc.nat(count - 1), { maxLength: 60 }),
          fc.constantFrom(0, 1000, 0xffff_fff0, 0x7fff_fff0),
        ),
      ),
      ([count, order, extra, start]) => {
        const { receiver, read } = create({ start })
        const arrived = new Set<number>()
        const accept = (i: number) => {
          receiver.accept(seqAdd(start, i), i === count - 1 ? Buffer.alloc(0) : packet(i, 1 + (i % 7)), i === count - 1)
          arrived.add(i)
          let next = 0
          while (arrived.has(next)) next++
          assert.equal(receiver.ack, seqAdd(start, next))
          const ranges: number[] = []
          for (let k = next; k < count; k++) {
            if (!arrived.has(k)) continue
            if (arrived.has(k - 1) && k - 1 >= next) ranges[ranges.length - 1] = seqAdd(start, k + 1)
            else ranges.push(seqAdd(start, k), seqAdd(start, k + 1))
          }
          assert.deepEqual([...receiver.ranges], ranges)
        }
        order.forEach((i, at) => {
          accept(i)
          const again = extra[at]
          if (again !== undefined && arrived.has(again)) accept(again)
          if (at % 3 === 0) receiver.deliver()
        })
        receiver.deliver()
        const expected = Buffer.concat(Array.from({ length: count - 1 }, (_, i) => packet(i, 1 + (i % 7))))
        assert.ok(Buffer.concat(read.bytes).equals(expected))
        assert.equal(read.ends, 1)
        assert.equal(receiver.buffered, 0)
      },
    ),
  )
})

test('receiver advertises what is really free: capacity without what waits for the reader and what waits for a hole', () => {
  let wants = true
  const { receiver } = create({ capacity: 1_000, wants: () => wants })
  assert.equal(receiver.window, 1_000)
  receiver.accept(2, packet(2, 100), false)
  assert.equal(receiver.window, 900)
  receiver.accept(0, packet(0, 100), false)
  assert.equal(receiver.window, 800)
  wants = false
  receiver.deliver()
  assert.equal(receiver.window, 900, 'the reader has taken what was in order')
  receiver.accept(1, packet(1, 100), false)
  receiver.deliver()
  assert.equal(receiver.window, 800, 'and takes no more')
  receiver.resume()
  receiver.deliver()
  assert.equal(receiver.window, 1_000)
})

test('receiver keeps a bounded amount, whatever a sender does', () => {
  const { receiver } = create({ capacity: 10_000 })
  for (let i = 1; i < 100; i++) receiver.accept(i, packet(i, 1_000), false)
  assert.ok(receiver.buffered <= 12_500)
  const { receiver: inOrder } = create({ capacity: 10_000, wants: () => false })
  for (let i = 0; i < 100; i++) {
    inOrder.accept(i, packet(i, 1_000), false)
    inOrder.deliver()
  }
  assert.ok(inOrder.buffered <= 14_000, `${inOrder.buffered} bytes of a sender that minds no window`)
  assert.ok(inOrder.ack < 16)
  receiver.accept(70_000, packet(1), false)
  receiver.accept(0x8000_0000, packet(1), false)
  assert.ok((receiver.ranges.at(-1) ?? 0) < 100)
})

test('receiver takes the end only where it can be, and nothing behind it', () => {
  const { receiver, read } = create()
  receiver.accept(5, packet(5), false)
  assert.equal(receiver.accept(3, packet(3), true), false)
  receiver.accept(0, packet(0), true)
  assert.equal(receiver.ack, 0, 'an end before what has already come is none')
  receiver.accept(6, packet(6), true)
  receiver.accept(7, packet(7), false)
  for (const i of [4, 3, 2, 1, 0]) receiver.accept(i, packet(i), false)
  receiver.deliver()
  assert.equal(read.ends, 1)
  assert.equal(Buffer.concat(read.bytes).length, 7 * 8)
  receiver.accept(7, packet(7), false)
  receiver.deliver()
  assert.equal(Buffer.concat(read.bytes).length, 7 * 8)
})

test('receiver gives the reader few large pieces, of memory that it does not use again', () => {
  const { receiver, read } = create()
  for (let i = 0; i < 40; i++) receiver.accept(i, packet(i, 1_452), false)
  receiver.deliver()
  assert.ok(read.bytes.length < 8, `${read.bytes.length} pieces`)
  const before = Buffer.concat(read.bytes)
  for (const bytes of read.bytes) bytes.fill(0)
  receiver.accept(40, packet(40, 1_452), false)
  receiver.deliver()
  assert.equal(read.bytes.at(-1)?.[0], 41)
  assert.equal(before.length, 40 * 1_452)
})

test('receiver lets go of everything when it is closed', () => {
  const { receiver, read } = create()
  receiver.accept(1, packet(1), false)
  receiver.accept(0, packet(0), false)
  receiver.close()
  receiver.deliver()
  assert.equal(receiver.buffered, 0)
  assert.equal(read.bytes.length, 0)
  assert.equal(receiver.accept(2, packet(2), false), false)
})

test('sackWindow shows the lowest ranges, and the highest in turn, when not all fit', () => {
  const ranges = Array.from({ length: 2 * (MAX_SACK_RANGES + 10) }, (_, i) => i)
  assert.deepEqual(sackWindow(ranges, false), { from: 0, count: MAX_SACK_RANGES })
  assert.deepEqual(sackWindow(ranges, true), { from: 10, count: MAX_SACK_RANGES })
  assert.deepEqual(sackWindow([1, 2], true), { from: 0, count: 1 })
})
