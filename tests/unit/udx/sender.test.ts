import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { FLAG_END, seqAdd } from '../../../lib/udx/packet.ts'
import { Sender } from '../../../lib/udx/sender.ts'
import { Simulation } from './support/simulation.ts'
import { GIVE_UP_TIME, pattern } from './support/streams.ts'

/** A sender whose first packet has the number `first`, and what it has done. */
function create(first = 0) {
  const simulation = new Simulation()
  const sent: { seq: number; payload: Uint8Array; flags: number }[] = []
  const count = { done: 0, timeouts: 0 }
  const sender = new Sender(
    {
      send: (flags, seq, payload) => sent.push({ flags, seq, payload }),
      done: () => count.done++,
      timeout: () => count.timeouts++,
    },
    simulation.clock,
  )
  sender.next = first
  return { simulation, sender, sent, count }
}

test('sender sends each byte once and in order, never more at a time than a few packets', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 0xffff_ffff }),
      fc.integer({ min: 1, max: 60_000 }),
      fc.array(fc.nat(20)),
      (first, length, steps) => {
        const { sender, sent, count } = create(first)
        const bytes = pattern(length)
        let acked = 0
        sender.write(bytes)
        for (const packets of [...steps, ...Array.from({ length: 60 }, () => 20)]) {
          acked = Math.min(acked + packets, sent.length)
          sender.onAcknowledged(seqAdd(first, acked))
          assert.ok(sent.length - acked <= 16)
        }
        assert.deepEqual(
          sent.map(({ seq }) => seq),
          sent.map((_, i) => seqAdd(first, i)),
        )
        assert.ok(Buffer.concat(sent.map(({ payload }) => payload)).equals(bytes))
        assert.equal(count.done, 1)
        sender.end()
        assert.equal(sent.at(-1)?.flags, FLAG_END)
        assert.equal(count.done, 1)
        sender.onAcknowledged(seqAdd(first, sent.length))
        assert.equal(count.done, 2)
        sender.close()
      },
    ),
  )
})

test('sender believes no acknowledgement of what it never sent, and none twice', async () => {
  const { simulation, sender, sent } = create(0xffff_ffff)
  sender.write(pattern(3_000))
  for (const ack of [3, 100, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe]) sender.onAcknowledged(ack)
  sent.length = 0
  await simulation.for(260)
  assert.deepEqual(
    sent.map(({ seq }) => seq),
    [0xffff_ffff, 0, 1],
  )
  sender.onAcknowledged(1)
  sender.onAcknowledged(0)
  sent.length = 0
  await simulation.for(260)
  assert.deepEqual(
    sent.map(({ seq }) => seq),
    [1],
  )
  sender.close()
  assert.equal(simulation.open.timers, 0)
})

test('sender waits twice as long each time, then gives up', async () => {
  const { simulation, sender, sent, count } = create()
  sender.write(pattern(100))
  await simulation.for(GIVE_UP_TIME - 1)
  assert.deepEqual([sent.length, count.timeouts], [10, 0])
  await simulation.for(1)
  assert.equal(count.timeouts, 1)
})
