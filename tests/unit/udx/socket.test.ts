// Real sockets of the running runtime, on loopback.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { runtimeBackend, UDX, type UDXSocket } from '../../../lib/udx/index.ts'
import { within } from '../../fixtures/wait.ts'

const HOST = '127.0.0.1'
/** Bytes of the largest datagram that Ethernet carries in one piece. */
const LARGE = 1_472

function bound(udx: UDX): [UDXSocket, number] {
  const socket = udx.createSocket()
  socket.bind(0, HOST)
  const address = socket.address()
  assert.ok(address !== null)
  assert.equal(address.host, HOST)
  assert.equal(address.family, 4)
  assert.ok(address.port > 0)
  return [socket, address.port]
}

test('socket binds at once, and throws where the port is taken', async () => {
  const udx = new UDX()
  const fresh = udx.createSocket()
  assert.equal(fresh.bound, false)
  assert.equal(fresh.address(), null)
  const [socket, port] = bound(udx)
  assert.equal(socket.bound, true)
  assert.throws(() => fresh.bind(port, HOST), { code: 'EADDRINUSE' })
  assert.equal(fresh.bound, false)
  assert.throws(() => socket.bind(0, HOST), /Already bound/)
  assert.throws(() => fresh.bind(0, 'localhost'), /not a valid IP address/)
  await socket.close()
  fresh.bind(port, HOST)
  assert.equal(fresh.address()?.port, port, 'the port is free after close()')
  await fresh.close()
  assert.throws(() => fresh.bind(0, HOST), /closed|bound/)
})

test('socket sends and receives datagrams', async () => {
  const udx = new UDX()
  const [a, from] = bound(udx)
  const [b, to] = bound(udx)
  const received: string[] = []
  const all = new Promise<void>((resolve) => {
    b.on('message', (bytes, { host, port, family }) => {
      assert.deepEqual([host, port, family], [HOST, from, 4])
      received.push(bytes.toString())
      if (received.length === 4) resolve()
    })
  })
  a.trySend(Buffer.from('one'), to, HOST)
  assert.equal(a.trySend(Buffer.from('two'), to, HOST), true)
  assert.equal(a.trySend(new Uint8Array([0x33]), to, HOST), true)
  a.trySend(Buffer.from('four'), to, HOST)
  await all
  assert.deepEqual(received.sort(), ['3', 'four', 'one', 'two'])
  // As strangers name it: lost, as on a network.
  a.trySend(Buffer.from('nowhere'), 0, HOST)
  assert.equal(a.trySend(Buffer.from('nowhere'), to, 'not.an.address'), false)
  assert.equal(a.trySend(Buffer.from('nowhere'), 0, HOST), false)
  await Promise.all([a.close(), b.close()])
  assert.equal(a.trySend(Buffer.from('late'), to, HOST), false)
  a.trySend(Buffer.from('late'), to, HOST)
})

test('datagram sockets take little memory for what comes in, and carry all that UDX sends', async () => {
  const all = Promise.withResolvers<Uint8Array[]>()
  const got: Uint8Array[] = []
  const message = (bytes: Uint8Array) => {
    if (got.push(bytes) === 3) all.resolve(got)
  }
  const options = { port: 0, host: HOST }
  const a = runtimeBackend.bind(options, () => undefined)
  const b = runtimeBackend.bind(options, message)
  try {
    for (let i = 0; i < 3; i++) a.send(Buffer.alloc(LARGE, 7), b.port, HOST)
    for (const bytes of await all.promise) assert.deepEqual(Buffer.from(bytes), Buffer.alloc(LARGE, 7))
    // The first may come in a buffer that was there before.
    assert.ok((got.at(-1)?.buffer.byteLength ?? 0) <= 16_384, `${got.at(-1)?.buffer.byteLength} bytes`)
  } finally {
    await Promise.all([a.close(), b.close()])
  }
})

test('datagram sockets lose nothing of what comes at once: the buffer of the system is not a small one', async () => {
  const COUNT = 80
  const all = Promise.withResolvers<void>()
  let got = 0
  const message = () => {
    if (++got === COUNT) all.resolve()
  }
  const options = { port: 0, host: HOST }
  const a = runtimeBackend.bind(options, () => undefined)
  const b = runtimeBackend.bind(options, message)
  try {
    for (let i = 0; i < COUNT; i++) a.send(Buffer.alloc(500), b.port, HOST)
    await within(`${COUNT} datagrams`, all.promise, 5_000)
  } finally {
    await Promise.all([a.close(), b.close()])
  }
})

test('socket hands UDX packets without a stream to its listener, as it does everything else', async () => {
  const udx = new UDX()
  const [a, from] = bound(udx)
  const [b, to] = bound(udx)
  const packet = Buffer.alloc(20)
  packet.set([0xff, 1])
  a.trySend(packet, to, HOST)
  const [bytes, address] = await once(b, 'message')
  assert.ok((bytes as Buffer).equals(packet))
  assert.equal((address as { port: number }).port, from)
  await Promise.all([a.close(), b.close()])
})

test('socket is busy while streams use it, and closes when the last has gone', async () => {
  const udx = new UDX()
  const [socket, port] = bound(udx)
  const events: string[] = []
  for (const event of ['busy', 'idle', 'close'] as const) socket.on(event, () => events.push(event))
  const streams = [udx.createStream(1), udx.createStream(2)] as const
  assert.ok(socket.idle)
  streams[0].connect(socket, 2, port, HOST)
  streams[1].connect(socket, 1, port, HOST)
  assert.ok(!socket.idle)
  assert.deepEqual(events, ['busy'])
  for (const stream of streams) stream.on('error', () => undefined)
  const gone = Promise.all(streams.map((stream) => once(stream, 'close')))
  streams[0].destroy()
  streams[1].destroy()
  await gone
  assert.deepEqual(events, ['busy', 'idle'])
  const third = udx.createStream(3)
  third.connect(socket, 9, port, HOST)
  const closing = socket.close()
  assert.ok(socket.closing)
  assert.throws(() => udx.createStream(4).connect(socket, 9, port, HOST), /closed/)
  assert.equal(events.includes('close'), false)
  third.destroy()
  await closing
  assert.deepEqual(events, ['busy', 'idle', 'busy', 'close'])
})

test('socket closes after its last stream has', async () => {
  const udx = new UDX()
  const [[a, from], [b, to]] = [bound(udx), bound(udx)]
  const events: string[] = []
  const streams = [udx.createStream(1), udx.createStream(2)] as const
  streams[0].connect(a, 2, to, HOST)
  streams[1].connect(b, 1, from, HOST)
  a.on('close', () => events.push('a'))
  b.on('close', () => events.push('b'))
  for (const stream of streams) stream.on('error', () => undefined).on('close', () => events.push(`${stream.id}`))
  streams[0].destroy()
  await Promise.all([a.close(), b.close()])
  assert.deepEqual(events.toSorted(), ['1', '2', 'a', 'b'])
  assert.ok(events.indexOf('1') < events.indexOf('a') && events.indexOf('2') < events.indexOf('b'), `${events}`)
})

test('socket and streams carry a megabyte between two instances', async () => {
  const [one, two] = [new UDX(), new UDX()]
  const received = [one, two].map((udx) => {
    const packets: Uint8Array[] = []
    const receive = udx.receive.bind(udx)
    udx.receive = (socket, packet, ...from) => packets.push(packet) > 0 && receive(socket, packet, ...from)
    return packets
  })
  const [a, from] = bound(one)
  const [b, to] = bound(two)
  const sender = one.createStream(1)
  const receiver = two.createStream(2)
  sender.connect(a, 2, to, HOST)
  receiver.connect(b, 1, from, HOST)
  let length = 0
  receiver.on('data', (bytes) => {
    length += (bytes as Buffer).length
  })
  sender.resume()
  const ended = once(receiver, 'end')
  sender.end(Buffer.alloc(1_000_000, 7))
  await ended
  assert.equal(length, 1_000_000)
  const closed = Promise.all([once(sender, 'close'), once(receiver, 'close')])
  receiver.end(undefined)
  await closed
  await Promise.all([a.close(), b.close()])
  for (const packets of received) assert.ok(packets.length > 5)
  for (const { streams } of [one, two]) assert.equal(streams.size, 0)
})
