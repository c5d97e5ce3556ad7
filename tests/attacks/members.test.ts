/** What a member may send that no mirror would, sealed rightly. */
import assert from 'node:assert/strict'
import { once } from 'node:events'
import process from 'node:process'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import type { Key } from '../../lib/oci/key.ts'
import { SwarmSeal } from '../../lib/swarm/datagram-seal.ts'
import { createSealedBackend, runtimeBackend, UDX } from '../../lib/udx/index.ts'
import { createHeader, FLAG_SACK, HEADER_SIZE, writeHeader, writeSacks } from '../../lib/udx/packet.ts'
import { SWARM_KEY } from '../fixtures/credentials.ts'
import { never } from '../fixtures/layout.ts'
import { found, withMembers } from '../fixtures/members.ts'
import { waitFor } from '../fixtures/wait.ts'
import { createRandom } from '../unit/udx/support/random.ts'
import { Attacker, handshakeFor, request, sealing, withoutFatalErrors } from './datagrams.ts'

const HOST = '127.0.0.1'
const KEY = 'registry.example/team/app:1' as Key

/** Memory that a node may take more, in bytes: its tables are bounded, and garbage waits for its collection. */
const MORE_MEMORY = 128 * 1024 * 1024

const MUTATED = 100_000

test('a member that seals garbage ends nothing and takes no memory', async () => {
  await withMembers((start) =>
    withoutFatalErrors(async () => {
      const member = await start([])
      const asker = await start([member])
      member.router.advertise([KEY])
      await member.router.settled(never)
      const random = createRandom(5)
      const below = (bound: number) => Math.floor(random() * bound)
      const bytes = (length: number) => Buffer.from(Array.from({ length }, () => below(256)))
      // Requests of every kind that hyperdht has, an answer, and packets of streams.
      const originals = [
        ...Array.from({ length: 12 }, (_, command) => request(command, bytes(32), bytes(120))),
        ...Array.from({ length: 4 }, () => handshakeFor(Buffer.from(member.id, 'hex'))),
        Buffer.concat([Buffer.from([0b0001_0011, 0b11111]), bytes(200)]),
        Buffer.concat([Buffer.from([0xff, 1, 0b11, 0]), bytes(60)]),
      ]
      const mutate = () => {
        const copy = Buffer.from(originals[below(originals.length)] ?? assert.fail())
        for (let n = 1 + below(6); n > 0; n--) copy[below(copy.length)] = below(256)
        return below(4) === 0 ? copy.subarray(0, below(copy.length + 1)) : copy
      }
      const seal = sealing()
      const attacker = await Attacker.start()
      const before = process.memoryUsage().rss
      try {
        for (let sent = 0; sent < MUTATED; sent++) {
          const sending = attacker.send(seal(mutate()), member.port)
          if (sent % 50 === 0) await Promise.all([sending, setImmediate()])
        }
        await waitFor('a lookup finds the member', async () =>
          (await found(asker.router.lookup(KEY, never))).some(({ port }) => port === member.port),
        )
        await waitFor('they are connected', () => asker.members.has(member.port))
        const grown = process.memoryUsage().rss - before
        assert.ok(grown < MORE_MEMORY, `${grown} bytes for ${MUTATED} datagrams`)
      } finally {
        await attacker.close()
      }
    }),
  )
})

test('a member that acknowledges a billion packets in one costs nothing, and the stream goes on', async () => {
  const create = () =>
    new UDX({
      backend: createSealedBackend(
        runtimeBackend,
        new SwarmSeal({ swarmKeys: [SWARM_KEY], onRefused: () => undefined }),
      ),
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
    const packet = Buffer.alloc(HEADER_SIZE + 8)
    writeHeader(packet, { ...createHeader(), flags: FLAG_SACK, id: 1 })
    writeSacks(packet, [0x4000_0000, 0xbfff_ffff], 0, 1)
    let length = 0
    receiver.on('data', (bytes) => {
      length += (bytes as Uint8Array).length
    })
    const ended = once(receiver, 'end')
    sender.end(Buffer.alloc(3_000_000, 7))
    // Each of these took seconds.
    for (let i = 0; i < 500; i++) await attacker.send(seal(packet), from)
    await ended
    assert.equal(length, 3_000_000)
    const closed = once(receiver, 'close')
    receiver.end(undefined)
    await closed
  } finally {
    await Promise.all([a.close(), b.close(), attacker.close()])
  }
})
