import assert from 'node:assert/strict'
import { test } from 'node:test'
import { OutgoingPacket, PacketList } from '../../../lib/udx/outgoing.ts'
import { LossDetection, RoundTripTime } from '../../../lib/udx/recovery.ts'

const route = { socket: { transmit: () => undefined }, remoteId: 1, port: 1, host: '127.0.0.1' }

/** Packets 0 to 9, sent one a millisecond, on a path with a round trip of 10 ms. */
function create() {
  const rtt = new RoundTripTime()
  rtt.sample(10)
  const loss = new LossDetection(rtt)
  const flight = new PacketList()
  const packets = Array.from({ length: 10 }, (_, seq) => {
    const packet = new OutgoingPacket(seq, Buffer.alloc(100), route, 0, 0)
    packet.sentAt = seq
    packet.transmissions = 1
    flight.append(packet)
    return packet
  })
  const deliver = (seq: number, now: number) => {
    const packet = packets[seq] as OutgoingPacket
    flight.remove(packet)
    loss.onDelivered(packet, now)
  }
  const detect = (now: number, sacked = 0) => {
    const lost: number[] = []
    const again = loss.detect(flight, sacked, now, (packet) => {
      flight.remove(packet)
      lost.push(packet.seq)
    })
    return { lost, again }
  }
  return { rtt, loss, flight, packets, deliver, detect }
}

test('loss detection waits for the reordering window before it takes an overtaken packet for lost', () => {
  const { deliver, detect } = create()
  deliver(1, 11)
  // Sent at 0, round trip 10, window a quarter of that.
  assert.deepEqual(detect(11, 1), { lost: [], again: 12.5 })
  assert.deepEqual(detect(12.5, 1), { lost: [0], again: Number.POSITIVE_INFINITY })
})

test('loss detection does not wait once three later packets have come and none was ever reordered', () => {
  const { deliver, detect } = create()
  for (const seq of [1, 2, 3]) deliver(seq, 10 + seq)
  assert.deepEqual(detect(13, 3).lost, [0])
})

test('loss detection waits again after reordering was seen', () => {
  const { deliver, detect, loss } = create()
  deliver(1, 11)
  deliver(0, 11.2)
  assert.ok(loss.reordering)
  for (const seq of [3, 4, 5]) deliver(seq, 10 + seq)
  assert.deepEqual(detect(14.4, 3), { lost: [], again: 14.5 })
  assert.deepEqual(detect(14.6, 3).lost, [2])
})

test('loss detection says nothing of packets that were sent after the last one delivered', () => {
  const { deliver, detect } = create()
  deliver(0, 10)
  assert.deepEqual(detect(10_000), { lost: [], again: Number.POSITIVE_INFINITY })
})

test('loss detection sees that a retransmission was lost', () => {
  const { deliver, detect, flight, packets } = create()
  for (const seq of [1, 2, 3]) deliver(seq, 10 + seq)
  assert.deepEqual(detect(13, 3).lost, [0])
  const again = packets[0] as OutgoingPacket
  again.transmissions = 2
  again.sentAt = 13
  flight.append(again)
  const later = packets[9] as OutgoingPacket
  flight.remove(later)
  later.sentAt = 14
  flight.append(later)
  for (const seq of [4, 5, 6, 7, 8]) deliver(seq, 18 + seq / 100)
  assert.deepEqual(detect(19, 8).lost, [])
  deliver(9, 24)
  assert.deepEqual(detect(24, 9).lost, [0])
})

test('loss detection believes a doubtful acknowledgement only after a while', () => {
  const { loss, detect, flight, packets } = create()
  const first = packets[0] as OutgoingPacket
  flight.remove(first)
  first.transmissions = 2
  first.sentAt = 100
  // Sooner than the shortest round trip: for the original, or the path has become faster.
  loss.onDelivered(first, 103)
  assert.deepEqual(detect(103), { lost: [], again: 111 })
  assert.equal(detect(111).lost.length, 9)
})
