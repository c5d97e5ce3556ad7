import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { FLAG_END, seqAdd } from '../../../lib/udx/packet.ts'
import { GIVE_UP_TIME, Sender } from '../../../lib/udx/sender.ts'
import { Simulation } from './support/simulation.ts'
import { pattern } from './support/streams.ts'

/** A sender whose first packet has the number `first`, and what it has done. */
function create(first = 0) {
  const simulation = new Simulation()
  const sent: { seq: number; payload: Uint8Array; flags: number }[] = []
  const count = { heartbeats: 0, done: 0, timeouts: 0 }
  const sender = new Sender(
    {
      send: (flags, seq, payload) => sent.push({ flags, seq, payload }),
      heartbeat: () => count.heartbeats++,
      done: () => count.done++,
      timeout: () => count.timeouts++,
    },
    simulation.clock,
  )
  sender.next = first
  return { simulation, sender, sent, count }
}

test('sender sends each byte once and in order, never more at a time than a few packets and what the peer has room for', () => {
  const answers = fc.array(fc.record({ packets: fc.nat(20), room: fc.nat(30_000) }, { noNullPrototype: true }))
  fc.assert(
    fc.property(
      fc.integer({ min: 0, max: 0xffff_ffff }),
      fc.integer({ min: 1, max: 60_000 }),
      answers,
      (first, length, steps) => {
        const { sender, sent, count } = create(first)
        const bytes = pattern(length)
        let acked = 0
        sender.onAcknowledged(first, 30_000)
        sender.write(bytes)
        for (const { packets, room } of [
          ...steps,
          ...Array.from({ length: 60 }, () => ({ packets: 20, room: 30_000 })),
        ]) {
          acked = Math.min(acked + packets, sent.length)
          const before = sent.length
          sender.onAcknowledged(seqAdd(first, acked), room)
          const flying = sent.slice(acked)
          assert.ok(flying.length <= 16)
          const flyingBytes = flying.reduce((sum, { payload }) => sum + payload.length, 0)
          assert.ok(sent.length === before || flyingBytes <= room, `${flyingBytes} bytes into ${room}`)
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
        sender.onAcknowledged(seqAdd(first, sent.length), 0)
        assert.equal(count.done, 2)
        sender.close()
      },
    ),
  )
})

test('sender believes no acknowledgement of what it never sent, and none twice', async () => {
  const { simulation, sender, sent } = create(0xffff_ffff)
  sender.write(pattern(3_000))
  for (const ack of [3, 100, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe]) sender.onAcknowledged(ack, 0)
  sent.length = 0
  await simulation.for(260)
  assert.deepEqual(
    sent.map(({ seq }) => seq),
    [0xffff_ffff, 0, 1],
  )
  sender.onAcknowledged(1, 10_000)
  sender.onAcknowledged(0, 0)
  sent.length = 0
  await simulation.for(260)
  assert.deepEqual(
    sent.map(({ seq }) => seq),
    [1],
  )
  sender.close()
  assert.equal(simulation.open.timers, 0)
})

test('sender waits twice as long each time, then gives up; and not while the peer says that it has no room', async () => {
  const { simulation, sender, sent, count } = create()
  sender.write(pattern(100))
  await simulation.for(GIVE_UP_TIME - 1)
  assert.deepEqual([sent.length, count.timeouts], [10, 0])
  await simulation.for(1)
  assert.equal(count.timeouts, 1)

  const closed = create()
  closed.sender.onAcknowledged(0, 0)
  closed.sender.write(pattern(100))
  for (let second = 0; second < 300; second++) {
    await closed.simulation.for(1_000)
    closed.sender.onAcknowledged(0, 0)
  }
  assert.deepEqual([closed.sent.length, closed.count.timeouts], [0, 0])
  assert.ok(closed.count.heartbeats > 100 && closed.count.heartbeats < 200, `${closed.count.heartbeats}`)
  closed.sender.onAcknowledged(0, 100)
  assert.equal(closed.sent.length, 1)
  closed.sender.close()
})
