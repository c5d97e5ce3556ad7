/** Datagrams from senders without the swarm key: a node answers none of them, and counts all. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import HyperDHT from 'hyperdht'
import type { Key } from '../../lib/oci/key.ts'
import { ANNOUNCE } from '../../lib/swarm/dht/rpc.ts'
import { compact, type NodeAddress } from '../../lib/swarm/node.ts'
import { topicOf } from '../../lib/swarm/topic.ts'
import { SWARM_KEY } from '../fixtures/credentials.ts'
import { never } from '../fixtures/layout.ts'
import { found, type Member, withMembers } from '../fixtures/members.ts'
import { waitFor } from '../fixtures/wait.ts'
import { answer, handshakeFor, request, sealing, withAttackers, withoutFatalErrors } from './datagrams.ts'

const STRANGER_KEY = new Uint8Array(32).fill(99)
const KEY = 'registry.example/team/app:1' as Key
/** Bytes that may wait in the system's buffer, which drops further datagrams, and the overhead of each datagram. */
const [BUFFER, EACH] = [100_000, 800]

interface Attack {
  /** The datagrams to a node with that public key that would do something to a third address. */
  make(publicKey: Buffer, third: NodeAddress): readonly Uint8Array[]
  /** Whether the sender gets an answer if a member seals the same datagram. The third address never gets one. */
  readonly isHeard?: boolean
}

const finds = async (one: Member, other: Member) =>
  (await found(one.router.lookup(KEY, never))).some(({ port }) => port === other.port)

/**
 * Sends the datagrams of `make` to a member, and checks that nobody gets a byte, that each is counted, and that the member
 * still works.
 */
async function nothingComesBack({ make, isHeard = false }: Attack): Promise<void> {
  await withMembers((start) =>
    withoutFatalErrors(() =>
      withAttackers(2, async (attacker, third) => {
        const member = await start([])
        const asker = await start([member])
        member.router.advertise([KEY])
        const before = member.router.figures.refused
        const datagrams = make(Buffer.from(member.id, 'hex'), third.address)
        let underWay = 0
        for (const [index, bytes] of datagrams.entries()) {
          await attacker.send(bytes, member.port)
          underWay += EACH + bytes.length
          if (underWay < BUFFER && index < datagrams.length - 1) continue
          await waitFor('all are counted', () => member.router.figures.refused - before === index + 1)
          underWay = 0
        }
        await waitFor('a lookup finds the member', () => finds(asker, member))
        assert.deepEqual([attacker.received, third.received], [0, 0])
        assert.equal(
          member.lines.filter(({ level, event }) => level === 'warn' && event.startsWith('datagrams refused')).length,
          1,
          'one warning a minute',
        )
        if (!isHeard) return
        const seal = sealing()
        for (const bytes of datagrams.slice(-256)) await attacker.send(seal(bytes), member.port)
        await waitFor('a member is answered', () => attacker.received > 0)
        assert.equal(third.received, 0)
      }),
    ),
  )
}

test('random datagrams of a stranger get no answer and are counted', async () => {
  await nothingComesBack({
    make: () => Array.from({ length: 500 }, (_, i) => randomBytes(1 + ((i * 31) % 1_400))),
  })
})

test('Noise handshakes of a stranger get no answer and are counted', async () => {
  await nothingComesBack({
    make: (publicKey) => Array.from({ length: 100 }, () => handshakeFor(publicKey)),
    isHeard: true,
  })
})

test('a handshake that a stranger wants to be relayed goes to no third address', async () => {
  await nothingComesBack({
    make: (publicKey, third) =>
      Array.from({ length: 50 }, (_, at) =>
        handshakeFor(at % 2 === 0 ? publicKey : HyperDHT.keyPair().publicKey, third, at % 5),
      ),
    // A member gets the answer that nobody relays.
    isHeard: true,
  })
})

test('no command of the DHT gets an answer unless it is sealed, whatever it asks', async () => {
  await nothingComesBack({
    make: () => Array.from({ length: 256 }, (_, command) => request(command, randomBytes(32), randomBytes(40))),
    isHeard: true,
  })
})

test('packets of streams get no answer unless they are sealed', async () => {
  await nothingComesBack({
    make: () =>
      Array.from({ length: 64 }, (_, flags) => Buffer.concat([Buffer.from([0xff, 1, flags, 0]), randomBytes(24)])),
  })
})

test('ten thousand announcements of a stranger to one topic leave no record, and the topic is found', async () => {
  const topic = topicOf(SWARM_KEY, KEY)
  await nothingComesBack({
    make: () => Array.from({ length: 10_000 }, () => request(ANNOUNCE, topic, topic, { token: randomBytes(32) })),
    // The answer says that the token is wrong.
    isHeard: true,
  })
})

test('what a stranger seals under a key of its own is as worthless', async () => {
  const seal = sealing(STRANGER_KEY)
  await nothingComesBack({
    make: () => Array.from({ length: 16 }, (_, command) => seal(request(command, randomBytes(32), randomBytes(40)))),
  })
})

test('answers that a stranger guesses turn no lookup into a miss', async () => {
  await withMembers((start) =>
    withAttackers(1, async (attacker) => {
      const member = await start([])
      const asker = await start([member])
      // A lookup is remembered for a while, so each asks for its own key.
      const keys = Array.from({ length: 300 }, (_, at) => `registry.example/team/app:${at}` as Key)
      member.router.advertise(keys)
      await member.router.settled(never)
      const [seal, before] = [sealing(STRANGER_KEY), asker.router.figures.refused]
      let sent = 0
      let isOver = false
      const guess = async () => {
        while (!isOver) {
          // Request numbers are sequential, so these are all numbers that may be under way.
          const guessed = answer(sent & 0xffff, Buffer.concat([Buffer.from([0]), compact(attacker.address)]))
          await attacker.send(sent % 2 === 0 ? guessed : seal(guessed), asker.port)
          // About a thousand per second.
          if (++sent % 20 === 0) await setTimeout(10)
        }
      }
      const guessing = guess()
      try {
        for (const key of keys) {
          const peers = await found(asker.router.lookup(key, never))
          assert.deepEqual(peers, [{ host: '127.0.0.1', port: member.port }], key)
          await setTimeout(2)
        }
      } finally {
        isOver = true
        await guessing
      }
      const refused = asker.router.figures.refused - before
      assert.ok(sent >= 100 && refused > 0, `${sent} guesses, ${refused} refused`)
      assert.equal(attacker.received, 0)
    }),
  )
})

test('a swarm with another key on the same addresses disturbs nothing', async () => {
  await withMembers(async (start) => {
    const a = await start([])
    const stranger = await start([a], { swarmKeys: [STRANGER_KEY] })
    // Each of these also has a member of the other swarm as a bootstrap node.
    const b = await start([a, stranger])
    const friend = await start([a, stranger], { swarmKeys: [STRANGER_KEY] })
    a.router.advertise([KEY])
    stranger.router.advertise([KEY])
    const ports = async (from: typeof a) => (await found(from.router.lookup(KEY, never))).map(({ port }) => port)
    await waitFor('each finds its own', async () => {
      const [ours, theirs] = [await ports(b), await ports(friend)]
      return ours.includes(a.port) && theirs.includes(stranger.port)
    })
    await waitFor('each is connected to its own', () => a.members.has(b.port) && stranger.members.has(friend.port))
    assert.deepEqual([await ports(b), await ports(friend)], [[a.port], [stranger.port]])
    for (const { members, port } of [a, b, stranger, friend]) {
      const own = port === a.port || port === b.port ? [a.port, b.port] : [stranger.port, friend.port]
      assert.ok(
        [...members].every((member) => own.includes(member)),
        `${port} is connected to ${[...members]}`,
      )
    }
    assert.ok(a.router.figures.refused > 0)
  })
})
