/** Correctly sealed datagrams that a malicious member may send, and a mirror never would. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import process from 'node:process'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { silentLogger } from '../../lib/observe/log.ts'
import type { Key } from '../../lib/oci/key.ts'
import { createSealedBackend, createSwarmSeal } from '../../lib/swarm/datagram-seal.ts'
import { ANNOUNCE, IDENTIFY, LOOKUP, QUESTION, WITHDRAW } from '../../lib/swarm/dht/rpc.ts'
import { topicOf } from '../../lib/swarm/topic.ts'
import { type DatagramBackend, type OnDatagram, runtimeBackend, UDX } from '../../lib/udx/index.ts'
import { createPacket, FLAG_SACK } from '../../lib/udx/packet.ts'
import { SWARM_KEY } from '../fixtures/credentials.ts'
import { never } from '../fixtures/layout.ts'
import { found, withMembers } from '../fixtures/members.ts'
import { joinAsMember, rpcOf } from '../fixtures/swarm.ts'
import { waitFor } from '../fixtures/wait.ts'
import { createRandom } from '../unit/udx/support/random.ts'
import { Attacker, handshakeFor, request, sealing, withAttackers, withoutFatalErrors } from './datagrams.ts'

const HOST = '127.0.0.1'
/** Announcements of one member for one topic. */
const ANNOUNCEMENTS = 10_000
const KEY = 'registry.example/team/app:1' as Key

/** Bytes of additional memory that a node may take: its tables are bounded, but garbage waits for its collection. */
const MORE_MEMORY = 128 * 1024 * 1024

/** How many datagrams reach the stack directly, and how many are also sent over the network. */
const [INJECTED, SENT] = [100_000, 3_000]

test('a member that seals garbage ends nothing and takes no memory', async () => {
  await withMembers((start) =>
    withoutFatalErrors(() =>
      withAttackers(1, async (attacker) => {
        const listeners: OnDatagram[] = []
        const backend: DatagramBackend = {
          bind(options, onDatagram) {
            listeners.push(onDatagram)
            return runtimeBackend.bind(options, onDatagram)
          },
        }
        const member = await start([], {}, { backend })
        const asker = await start([member])
        member.router.advertise([KEY])
        await member.router.settled(never)
        const random = createRandom(5)
        const below = (bound: number) => Math.floor(random() * bound)
        const bytes = (length: number) => Buffer.from(Array.from({ length }, () => below(256)))
        const commands = [...Array.from({ length: 12 }, (_, at) => at), QUESTION, LOOKUP, ANNOUNCE, WITHDRAW, IDENTIFY]
        const originals = [
          ...commands.map((command) => request(command, bytes(32), bytes(120))),
          ...commands.map((command) => request(command, bytes(32), bytes(32), { id: bytes(32), token: bytes(32) })),
          // An answer, and packets of streams.
          Buffer.concat([Buffer.from([0b0001_0011, 0b11111]), bytes(200)]),
          Buffer.concat([Buffer.from([0xff, 1, 0b11, 0]), bytes(60)]),
          Buffer.concat([Buffer.from([0xff, 1, FLAG_SACK, 16]), bytes(60)]),
        ]
        const handshakes = Array.from({ length: 4 }, () => handshakeFor(Buffer.from(member.id, 'hex')))
        const mutate = () => {
          // A nearly correct handshake costs as much as a hundred other datagrams.
          const from = below(50) === 0 ? handshakes : originals
          const copy = Buffer.from(from[below(from.length)] ?? assert.fail())
          for (let n = 1 + below(6); n > 0; n--) copy[below(copy.length)] = below(256)
          return below(4) === 0 ? copy.subarray(0, below(copy.length + 1)) : copy
        }
        const seal = sealing()
        const before = process.memoryUsage().rss
        for (let count = 0; count < INJECTED; count++) {
          listeners[count % listeners.length]?.(seal(mutate()), attacker.address.port, HOST)
          if (count % 200 === 0) await setImmediate()
        }
        for (let count = 0; count < SENT; count++) {
          await attacker.send(seal(mutate()), member.port)
          if (count % 50 === 0) await setImmediate()
        }
        await waitFor('a lookup finds the member', async () =>
          (await found(asker.router.lookup(KEY, never))).some(({ port }) => port === member.port),
        )
        await waitFor('they are connected', () => asker.members.has(member.port))
        const grown = process.memoryUsage().rss - before
        assert.ok(grown < MORE_MEMORY, `${grown} bytes for ${INJECTED + SENT} datagrams`)
        assert.ok(attacker.received > 0, 'some were answered')
      }),
    ),
  )
})

test('a member that announces to one topic ten thousand times hides nobody in it, and is refused', async () => {
  await withMembers(async (start) => {
    const a = await start([])
    const [b, c] = [await start([a]), await start([a])]
    const topic = topicOf(SWARM_KEY, KEY)
    // Another host, on which any port will do.
    const [host, victims] = ['127.0.0.3', [a, b, c].map(({ port }) => port)]
    const dht = await joinAsMember(a.port, { host })
    const seal = sealing()
    try {
      for (const port of victims) {
        const reply = await rpcOf(dht).ask({ host: HOST, port }, topic, 1_000)
        const announcement = request(ANNOUNCE, topic, topic, { token: reply?.token ?? assert.fail() })
        const attackers = await Promise.all(Array.from({ length: 50 }, () => Attacker.start(host)))
        // Any port may be the source. Here a few ports each send many.
        for (let sent = 0; sent < ANNOUNCEMENTS / victims.length; sent++) {
          await attackers[sent % attackers.length]?.send(seal(announcement), port)
          if (sent % 100 === 0) await setImmediate()
        }
        await Promise.all(attackers.map((attacker) => attacker.close()))
      }
      for (const { router } of [a, b, c]) await waitFor('the rest is refused', () => router.figures.recordsRefused > 0)
      b.router.advertise([KEY])
      await b.router.settled(never)
      assert.equal(b.router.figures.turnedAway, 0)
      for (const { router } of [a, c]) {
        const peers = await found(router.lookup(KEY, never))
        assert.ok(peers.some(({ port }) => port === b.port))
        assert.ok(
          peers.every(({ host: at }) => at === HOST),
          'the others answer no datagram, so nobody is sent there',
        )
      }
      assert.equal(a.lines.filter(({ event }) => event.startsWith('announcements of other nodes refused')).length, 1)
    } finally {
      await dht.destroy({ force: true })
    }
  })
})

test('a member that acknowledges a billion packets in one costs nothing, and the stream goes on', async () => {
  const create = () =>
    new UDX({
      backend: createSealedBackend(runtimeBackend, createSwarmSeal(silentLogger, [SWARM_KEY])),
    })
  const [one, two] = [create(), create()]
  const [a, b] = [one.createSocket(), two.createSocket()]
  a.bind(0, HOST)
  b.bind(0, HOST)
  const [from, to] = [a.address()?.port ?? 0, b.address()?.port ?? 0]
  const [sender, receiver] = [one.createStream(1), two.createStream(2)]
  sender.connect(a, 2, to, HOST)
  receiver.connect(b, 1, from, HOST)
  sender.resume()
  const attacker = await Attacker.start()
  try {
    const seal = sealing()
    const range = Buffer.alloc(8)
    range.writeUInt32LE(0x4000_0000)
    range.writeUInt32LE(0xbfff_ffff, 4)
    const acks = [0, 0x4000_0000, 0x7fff_ffff, 0x8000_0000, 0xbfff_ffff, 0xffff_ffff]
    let length = 0
    receiver.on('data', (bytes) => {
      length += (bytes as Uint8Array).length
    })
    const ended = once(receiver, 'end')
    sender.end(Buffer.alloc(3_000_000, 7))
    // Each of these could take seconds, if ranges were read or numbers counted.
    for (let i = 0; i < 500; i++) {
      const header = { flags: FLAG_SACK, id: 1, seq: 0, ack: acks[i % acks.length] ?? 0 }
      await attacker.send(seal(createPacket(header, range)), from)
    }
    await ended
    assert.equal(length, 3_000_000)
    const closed = once(receiver, 'close')
    receiver.end(undefined)
    await closed
  } finally {
    await Promise.all([a.close(), b.close(), attacker.close()])
  }
})
