// Real sockets of the running runtime, on loopback.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { DEFAULT_TTL } from '../../../lib/udx/backend.ts'
import { createSystemClock } from '../../../lib/udx/clock.ts'
import { runtimeBackend, UDX, type UDXSocket } from '../../../lib/udx/index.ts'
import { MAX_MTU } from '../../../lib/udx/mtu.ts'
import { NetworkInterfaces } from '../../../lib/udx/udx.ts'
import { within } from '../../fixtures/wait.ts'
import { Simulation } from './support/simulation.ts'

const HOST = '127.0.0.1'

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

test('socket sends and receives datagrams, with a time to live of their own if asked', async () => {
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
  assert.equal(await a.send(Buffer.from('two'), to, HOST), true)
  assert.equal(await a.send(new Uint8Array([0x33]), to, HOST, 5), true)
  a.trySend(Buffer.from('four'), to, HOST, 64)
  await all
  assert.deepEqual(received.sort(), ['3', 'four', 'one', 'two'])
  await assert.rejects(async () => a.send(Buffer.from('x'), to, 'not.an.address'), /not a valid IP address/)
  // As strangers name it: lost, as on a network.
  a.trySend(Buffer.from('nowhere'), 0, HOST)
  assert.equal(await a.send(Buffer.from('nowhere'), 0, HOST), false)
  await Promise.all([a.close(), b.close()])
  assert.equal(await a.send(Buffer.from('late'), to, HOST), false)
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
    for (let i = 0; i < 3; i++) await a.sendNow(Buffer.alloc(MAX_MTU, 7), b.port, HOST, DEFAULT_TTL)
    for (const bytes of await all.promise) assert.deepEqual(Buffer.from(bytes), Buffer.alloc(MAX_MTU, 7))
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
    const sent = Array.from({ length: COUNT }, () => a.sendNow(Buffer.alloc(500), b.port, HOST, DEFAULT_TTL))
    await Promise.all(sent)
    await within(`${COUNT} datagrams`, all.promise, 5_000)
  } finally {
    await Promise.all([a.close(), b.close()])
  }
})

test('socket asks for the end of a turn only where datagrams are collected until then', async () => {
  let deferred = 0
  const clock = { ...createSystemClock(), defer: () => deferred++ }
  const simple = {
    port: 1,
    send: () => undefined,
    sendNow: async () => true,
    close: async () => undefined,
  }
  for (const [datagrams, turns] of [
    [simple, 0],
    [{ ...simple, flush: () => undefined }, 1],
  ] as const) {
    deferred = 0
    const socket = new UDX({ clock, backend: { overhead: 0, bind: () => datagrams } }).createSocket()
    socket.trySend(Buffer.from('x'), 1, HOST)
    await socket.close()
    assert.equal(deferred, turns)
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
  for (const { streams, linger, packetsReceived } of [one, two]) {
    assert.ok(packetsReceived > 5)
    assert.equal(streams.size, 0)
    assert.equal(linger.size, 0)
  }
})

test('network interfaces are those of the system, and a watch ends', async () => {
  const udx = new UDX()
  const loopback = udx.networkInterfaces().find(({ host }) => host === HOST)
  assert.deepEqual({ family: loopback?.family, internal: loopback?.internal }, { family: 4, internal: true })
  const watcher = udx.watchNetworkInterfaces()
  assert.ok(watcher.interfaces.some(({ host }) => host === HOST))
  await watcher.destroy()
})

test('network interfaces are watched on, where the system cannot list them for a while', async () => {
  const simulation = new Simulation()
  const lists: (readonly string[] | undefined)[] = [['10.0.0.1'], undefined, ['10.0.0.1'], ['10.0.0.2']]
  const list = () =>
    (lists.shift() ?? assert.fail('EMFILE')).map((host) => ({
      name: 'eth0',
      host,
      family: 4 as const,
      internal: false,
    }))
  const interfaces = new NetworkInterfaces(simulation.clock, list)
  const changes: string[] = []
  interfaces.on('change', (now) => changes.push(now.map(({ host }) => host).join()))
  await simulation.for(100_000)
  assert.deepEqual(changes, ['10.0.0.2'])
  await interfaces.destroy()
  assert.equal(simulation.open.timers, 0)
})

test('lookup asks the system', async () => {
  const udx = new UDX()
  assert.deepEqual(await udx.lookup(HOST), { host: HOST, family: 4 })
  assert.deepEqual(await udx.lookup('localhost', { family: 4 }), { host: HOST, family: 4 })
})
