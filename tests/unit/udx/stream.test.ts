import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import type { UDXStream } from '../../../lib/udx/index.ts'
import { FLAG_DATA, FLAG_DESTROY, FLAG_END, HEADER_SIZE } from '../../../lib/udx/packet.ts'
import { type Path, Simulation } from './support/simulation.ts'
import { closeAll, connectPair, type End, GIVE_UP_TIME, HOST, pattern, watch, writeAll } from './support/streams.ts'

/** Sends `length` bytes each way, both ends end, and everything must be right and given back. */
async function exchange(path: Path, seed: number, length: number): Promise<void> {
  const isLossy = (path.loss ?? 0) > 0
  const simulation = new Simulation(path, seed)
  const ends = connectPair(simulation)
  const bytes = pattern(length)
  for (const { stream } of ends) writeAll(stream, bytes)
  await simulation.until(() => ends.every(({ log }) => log.closed), 120_000)
  for (const { log, udx } of ends) {
    // One side may wait in vain for the last acknowledgement of all, if that is lost.
    assert.ok(log.error === undefined || (isLossy && log.error.code === 'ETIMEDOUT'), log.error?.message)
    assert.ok(log.ended)
    assert.ok(Buffer.concat(log.bytes).equals(bytes), 'the bytes arrive as they were sent')
    assert.equal(udx.streams.size, 0)
  }
  await closeAll(simulation, ends)
  assert.deepEqual(simulation.open, { timers: 0, sockets: 0 })
}

const portOf = ({ socket }: End) => socket.address()?.port as number
const flagsOf = (packet: Buffer) => packet[2] as number

/** Ends a stream, which finishes when the peer has acknowledged all of it. @returns whether it has within `limit` milliseconds */
async function isAcknowledged(simulation: Simulation, stream: UDXStream, limit: number): Promise<boolean> {
  let finished = false
  stream.once('finish', () => {
    finished = true
  })
  stream.end(undefined)
  await simulation.until(() => finished, limit)
  return finished
}

test('stream carries bytes both ways and gives everything back', async () => {
  await exchange({}, 1, 300_000)
})

test('stream carries bytes over any path: loss, duplication, reordering, delay, a narrow link', async () => {
  await fc.assert(
    fc.asyncProperty(
      fc.record({
        delay: fc.integer({ min: 0, max: 100 }),
        jitter: fc.integer({ min: 0, max: 30 }),
        loss: fc.double({ min: 0, max: 0.2, noNaN: true }),
        duplication: fc.double({ min: 0, max: 0.2, noNaN: true }),
        bandwidth: fc.integer({ min: 200, max: 20_000 }),
        queue: fc.integer({ min: 20_000, max: 200_000 }),
        mtu: fc.constantFrom(1200, 1300, 1400, 1500),
      }),
      fc.integer({ min: 1, max: 1e6 }),
      fc.integer({ min: 1, max: 60_000 }),
      async (path, seed, length) => {
        await exchange(path, seed, length)
      },
    ),
    { numRuns: 40 },
  )
})

test('stream ends one direction while the other goes on', async () => {
  const simulation = new Simulation()
  const ends = connectPair(simulation)
  const [a, b] = ends
  a.stream.end(Buffer.from('request'))
  await simulation.until(() => b.log.ended)
  assert.ok(!a.log.closed && !b.log.closed)
  b.stream.write(Buffer.from('answer'))
  await simulation.until(() => a.log.length === 6)
  b.stream.end(undefined)
  await simulation.until(() => a.log.closed && b.log.closed)
  assert.equal(Buffer.concat(a.log.bytes).toString(), 'answer')
  await closeAll(simulation, ends)
})

test('stream gives its peer ECONNRESET when it is destroyed', async () => {
  const simulation = new Simulation()
  const ends = connectPair(simulation)
  ends[0].stream.write(Buffer.from('half of'))
  await simulation.until(() => ends[1].log.length > 0)
  ends[0].stream.destroy()
  await simulation.until(() => ends[1].log.closed)
  assert.equal(ends[1].log.error?.code, 'ECONNRESET')
  assert.equal(ends[0].log.error, undefined)
  await closeAll(simulation, ends)
  assert.deepEqual(simulation.open, { timers: 0, sockets: 0 })
})

test('stream that is destroyed while it waits for the last acknowledgement closes at once', async () => {
  const simulation = new Simulation()
  const ends = connectPair(simulation)
  const [a, b] = ends
  a.stream.end(undefined)
  await simulation.until(() => b.log.ended)
  // The peer never answers again.
  simulation.filter = (_packet, from) => from !== portOf(a)
  b.stream.end(undefined)
  await simulation.until(() => a.log.closed)
  await simulation.for(100)
  assert.equal(b.log.closed, false)
  b.stream.destroy()
  await simulation.until(() => b.log.closed, 1)
  assert.equal(b.log.error, undefined)
  await closeAll(simulation, ends)
  assert.deepEqual(simulation.open, { timers: 0, sockets: 0 })
})

test('stream gives up a peer that is gone, within the documented time', async () => {
  const simulation = new Simulation()
  const ends = connectPair(simulation)
  ends[0].stream.write(pattern(100_000))
  await simulation.until(() => ends[1].log.length === 100_000)
  simulation.filter = () => false
  ends[0].stream.write(pattern(100_000))
  const start = simulation.now
  await simulation.until(() => ends[0].log.closed)
  assert.equal(ends[0].log.error?.code, 'ETIMEDOUT')
  const took = simulation.now - start
  assert.ok(took >= GIVE_UP_TIME && took <= GIVE_UP_TIME + 2_100, `${took} ms`)
  await closeAll(simulation, ends)
  assert.deepEqual(simulation.open, { timers: 0, sockets: 0 })
})

test('stream survives an outage that is shorter than that', async () => {
  const simulation = new Simulation()
  const ends = connectPair(simulation)
  const bytes = pattern(500_000)
  writeAll(ends[0].stream, bytes)
  await simulation.until(() => ends[1].log.length > 0)
  simulation.filter = () => false
  await simulation.for(GIVE_UP_TIME - 3_000)
  simulation.filter = () => true
  await simulation.until(() => ends[1].log.ended, 5_000)
  assert.ok(Buffer.concat(ends[1].log.bytes).equals(bytes))
  await closeAll(simulation, ends)
})

test('stream delivers messages beside the bytes', async () => {
  const simulation = new Simulation()
  const ends = connectPair(simulation)
  ends[0].stream.trySend(Buffer.from('one'))
  ends[0].stream.trySend(Buffer.from('two'))
  ends[0].stream.trySend(Buffer.alloc(0))
  await simulation.until(() => ends[1].log.messages.length === 3)
  assert.deepEqual(ends[1].log.messages.map(String).sort(), ['', 'one', 'two'])
  await closeAll(simulation, ends)
  ends[0].stream.trySend(Buffer.from('late'))
})

test('stream is connected by its firewall to where the first packet comes from, and has lost nothing', async () => {
  const simulation = new Simulation()
  const [client, server] = [simulation.createUDX(), simulation.createUDX()]
  const [from, to] = [client.createSocket(), server.createSocket()]
  from.bind(0, HOST)
  to.bind(0, HOST)
  const asked: number[] = []
  const b = server.createStream(2, {
    firewall: (socket, port, host, family) => {
      assert.equal(family, 4)
      asked.push(port)
      b.connect(socket, 1, port, host)
      return false
    },
  })
  const log = watch(b)
  const a = client.createStream(1)
  a.connect(from, 2, to.address()?.port as number, HOST)
  a.write(Buffer.from('hello'))
  await simulation.until(() => log.length === 5)
  assert.deepEqual(asked, [from.address()?.port])
  assert.ok(await isAcknowledged(simulation, a, 10))
  a.destroy()
  await simulation.until(() => log.closed)
  void from.close()
  void to.close()
})

test('stream takes bytes before it is connected, and acknowledges them once it is', async () => {
  const simulation = new Simulation()
  const [client, server] = [simulation.createUDX(), simulation.createUDX()]
  const [from, to] = [client.createSocket(), server.createSocket()]
  from.bind(0, HOST)
  to.bind(0, HOST)
  const b = server.createStream(2, { firewall: () => false })
  const log = watch(b)
  const a = client.createStream(1)
  a.connect(from, 2, to.address()?.port as number, HOST)
  a.write(Buffer.from('early'))
  await simulation.until(() => log.length === 5)
  b.connect(to, 1, from.address()?.port as number, HOST)
  assert.ok(await isAcknowledged(simulation, a, 300))
  a.destroy()
  await simulation.until(() => log.closed)
  void from.close()
  void to.close()
})

test('stream without a firewall ignores packets from other sockets than its own', async () => {
  const simulation = new Simulation()
  const ends = connectPair(simulation)
  const other = ends[1].udx.createSocket()
  other.bind(0, HOST)
  const destroy = Buffer.alloc(HEADER_SIZE)
  destroy.writeUInt32LE(0xff | (1 << 8) | (FLAG_DESTROY << 16))
  destroy.writeUInt32LE(2, 4)
  simulation.inject(destroy, 9, other.address()?.port as number)
  await simulation.for(10)
  assert.equal(ends[1].log.closed, false)
  simulation.inject(destroy, 9, portOf(ends[1]))
  await simulation.until(() => ends[1].log.closed)
  void other.close()
  await closeAll(simulation, ends)
})

test('stream refuses ids that are taken, addresses that are none, and to write before it is connected', async () => {
  const simulation = new Simulation()
  const udx = simulation.createUDX()
  const stream = udx.createStream(1)
  assert.throws(() => udx.createStream(1), /taken/)
  const socket = udx.createSocket()
  assert.throws(() => stream.connect(socket, 2, 0, HOST), /port/)
  assert.throws(() => stream.connect(socket, 2, 1, 'example.org'), /not a valid IP address/)
  const log = watch(stream)
  stream.write(Buffer.from('too early'))
  await simulation.until(() => log.closed)
  assert.equal(log.error?.code, 'ENOTCONN')
  assert.equal(udx.streams.size, 0)
})

test('stream repairs a lost tail', async () => {
  const simulation = new Simulation({ delay: 5 })
  const ends = connectPair(simulation)
  const [a, b] = ends
  a.stream.write(pattern(50_000))
  await simulation.until(() => b.log.length === 50_000)
  await simulation.for(10)
  let dropped = false
  simulation.filter = (packet) => {
    if ((flagsOf(packet) & FLAG_END) === 0 || dropped) return true
    dropped = true
    return false
  }
  const start = simulation.now
  a.stream.end(undefined)
  await simulation.until(() => b.log.ended)
  assert.ok(dropped)
  assert.ok(simulation.now - start < 300, `${simulation.now - start} ms`)
  await closeAll(simulation, ends)
})

test('stream survives mutated packets: nothing throws, nothing grows, and the bytes are right', async () => {
  const simulation = new Simulation({ delay: 2 })
  const ends = connectPair(simulation)
  const [a, b] = ends
  const bytes = pattern(300_000)
  let seed = 1
  const random = (n: number) => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0
    return (seed >>> 8) % n
  }
  // Every fourth packet is followed by a copy with bytes changed; what would be valid is kept out: data, and end of life.
  let mutated = 0
  simulation.filter = (packet, from, to) => {
    for (let i = 0; i < 40 && mutated < 10_000; i++) {
      const copy = Buffer.from(packet.subarray(0, random(packet.length + 1)))
      for (let n = 1 + random(8); n > 0 && copy.length > 0; n--) copy[random(Math.min(copy.length, 28))] = random(256)
      if (copy.length > 2 && (flagsOf(copy) & (FLAG_DESTROY | FLAG_DATA | FLAG_END)) !== 0)
        copy[2] = flagsOf(copy) & ~(FLAG_DESTROY | FLAG_DATA | FLAG_END)
      if (copy.length >= HEADER_SIZE && copy.readUInt32LE(16) < 1_000) copy.writeUInt32LE(0x7000_0000, 16)
      if (copy.length > HEADER_SIZE) copy.fill(0x77, HEADER_SIZE)
      mutated++
      simulation.inject(copy, from, to)
    }
    return true
  }
  for (const { stream } of ends) writeAll(stream, bytes)
  await simulation.until(() => ends.every(({ log }) => log.closed))
  assert.equal(mutated, 10_000)
  for (const { log } of [a, b]) {
    assert.equal(log.error, undefined)
    assert.ok(Buffer.concat(log.bytes).equals(bytes))
  }
  await closeAll(simulation, ends)
  assert.deepEqual(simulation.open, { timers: 0, sockets: 0 })
})
