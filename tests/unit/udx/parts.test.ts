import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { UDX } from '../../../lib/udx/index.ts'
import { BASE_MTU, MAX_MTU, MtuSearch } from '../../../lib/udx/mtu.ts'
import { SendQueue } from '../../../lib/udx/outgoing.ts'
import { SeqRing, seqAdd, seqBefore, seqDiff, seqDistance } from '../../../lib/udx/packet.ts'
import { Pacer } from '../../../lib/udx/rate.ts'
import { RoundTripTime } from '../../../lib/udx/recovery.ts'
import { PeerWindow } from '../../../lib/udx/scoreboard.ts'

const u32 = fc.integer({ min: 0, max: 0xffff_ffff })
const header = { flags: 0, dataOffset: 0, id: 0 }

test('seq arithmetic wraps: what is added is the difference, and makes the order', () => {
  fc.assert(
    fc.property(u32, fc.integer({ min: -0x8000_0000, max: 0x7fff_ffff }), (seq, n) => {
      const other = seqAdd(seq, n)
      assert.ok(other >= 0 && other <= 0xffff_ffff)
      assert.equal(seqDiff(other, seq), n)
      assert.equal(seqBefore(other, seq), n < 0)
      assert.equal(seqAdd(seq, seqDistance(seq, other)), other)
    }),
  )
})

test('SeqRing keeps what lies in its range, however the range moves and grows', () => {
  const step = fc.record({ ahead: fc.nat(3_000), advance: fc.nat(200) }, { noNullPrototype: true })
  fc.assert(
    fc.property(u32, fc.array(step, { maxLength: 200 }), (start, steps) => {
      const ring = new SeqRing<number>()
      const expected = new Map<number, number>()
      let base = start
      for (const { ahead, advance } of steps) {
        const seq = seqAdd(base, ahead)
        assert.equal(ring.set(seq, ahead, base), !expected.has(seq))
        if (!expected.has(seq)) expected.set(seq, ahead)
        for (let i = 0; i < advance; i++, base = seqAdd(base, 1)) {
          assert.equal(ring.get(base), expected.get(base))
          ring.delete(base)
          expected.delete(base)
        }
        for (const [kept, value] of expected) assert.equal(ring.get(kept), value)
      }
    }),
  )
})

test('SendQueue gives out the bytes in order, whatever the pieces', () => {
  fc.assert(
    fc.property(
      fc.array(fc.uint8Array({ maxLength: 50 }), { maxLength: 200 }),
      fc.array(fc.integer({ min: 1, max: 90 }), { minLength: 1 }),
      (buffers, sizes) => {
        const queue = new SendQueue()
        for (const buffer of buffers) queue.push(buffer)
        const all = Buffer.concat(buffers)
        assert.equal(queue.bytes, all.length)
        const taken: Buffer[] = []
        for (let i = 0; queue.bytes > 0; i++) {
          const size = sizes[i % sizes.length] as number
          const target = Buffer.alloc(size + 3)
          const count = queue.take(target, 3, size)
          assert.ok(count > 0 && count <= size)
          taken.push(target.subarray(3, 3 + count))
        }
        assert.ok(Buffer.concat(taken).equals(all))
        assert.equal(queue.take(Buffer.alloc(4), 0, 4), 0)
      },
    ),
  )
})

test('PeerWindow believes the newest packet only', () => {
  const window = new PeerWindow()
  const update = (seq: number, ack: number, rwnd: number) => window.update({ ...header, seq, ack, rwnd })
  assert.equal(update(5, 1, 1_000), false)
  assert.equal(window.size, 1_000)
  assert.equal(update(4, 9, 5_000), false, 'an older packet')
  assert.equal(update(5, 0, 5_000), false, 'an older acknowledgement')
  assert.equal(window.size, 1_000)
  assert.equal(update(5, 1, 2_000), true)
  assert.equal(update(6, 1, 0), false)
  assert.equal(window.size, 0)
})

test('Pacer lets a burst go, then keeps to the rate', () => {
  const pacer = new Pacer()
  const rate = 1_500
  let sent = 0
  let now = 0
  for (; now < 1_000; now += 0.5) {
    while (pacer.available(now, rate) > 0) {
      pacer.spend(1_500)
      sent += 1_500
    }
    const ready = pacer.readyAt(now, rate)
    assert.ok(ready > now && ready - now < 12, `waits ${ready - now} ms`)
  }
  assert.ok(Math.abs(sent - rate * now) < 20_000, `${sent} bytes in ${now} ms at ${rate} bytes/ms`)
})

test('Pacer does not save up an idle time', () => {
  const pacer = new Pacer()
  pacer.available(0, 100_000)
  assert.equal(pacer.available(10_000, 100_000), 200_000)
})

test('RoundTripTime smooths as RFC 6298 does and keeps the minimum', () => {
  const rtt = new RoundTripTime()
  assert.equal(rtt.probeTimeout, 333)
  rtt.sample(100)
  assert.deepEqual([rtt.smoothed, rtt.variation, rtt.minimum], [100, 50, 100])
  rtt.sample(60)
  assert.deepEqual([rtt.smoothed, rtt.variation, rtt.minimum], [95, 47.5, 60])
  assert.equal(rtt.probeTimeout, 95 + 4 * 47.5 + 8)
})

test('MtuSearch finds the largest size that arrives, and never sends more than 1500', () => {
  for (const limit of [1500, 1450, 1280, 1200]) {
    const search = new MtuSearch()
    assert.deepEqual([search.size, search.padding], [BASE_MTU, 0], 'not before anything has arrived')
    search.start()
    let probes = 0
    for (let padding = search.padding; padding > 0; padding = search.padding) {
      assert.ok(++probes < 40)
      assert.ok(padding <= 255 && search.size + padding <= MAX_MTU)
      search.onProbeSent()
      assert.equal(search.padding, 0, 'one probe at a time')
      if (search.size + padding <= limit) search.onProbeAcked(padding)
      else search.onProbeLost()
    }
    assert.ok(search.size <= limit && search.size > limit - 32, `${search.size} on a path of ${limit}`)
    assert.ok(limit < 1500 || probes <= 2)
  }
})

test('MtuSearch is not misled by one lost probe', () => {
  const search = new MtuSearch()
  search.start()
  const first = search.padding
  search.onProbeSent()
  search.onProbeLost()
  assert.equal(search.padding, first)
})

test('UDX tells addresses from names as the addon does', () => {
  assert.equal(UDX.isIPv4('127.0.0.1'), true)
  assert.equal(UDX.isIPv4('127.0.0.256'), false)
  assert.equal(UDX.isIPv4('::1'), false)
  assert.equal(UDX.isIPv4('localhost'), false)
})
