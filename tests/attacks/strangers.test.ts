/** What reaches a node of the swarm from a sender without the swarm key: nothing comes back, and all of it is counted. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import HyperDHT from 'hyperdht'
import type { Key } from '../../lib/oci/key.ts'
import { ANNOUNCE } from '../../lib/swarm/dht/hyperdht-rpc.ts'
import { compact, type NodeAddress } from '../../lib/swarm/node.ts'
import { topicOf } from '../../lib/swarm/topic.ts'
import { SWARM_KEY } from '../fixtures/credentials.ts'
import { never } from '../fixtures/layout.ts'
import { found, type Member, withMembers } from '../fixtures/members.ts'
import { waitFor } from '../fixtures/wait.ts'
import { answer, handshakeFor, request, sealing, withAttackers, withoutFatalErrors } from './datagrams.ts'

const STRANGER_KEY = new Uint8Array(32).fill(99)
const KEY = 'registry.example/team/app:1' as Key
/** Bytes that may wait in the buffer of a system, which drops what does not fit, and what each datagram takes besides its own. */
const [BUFFER, EACH] = [100_000, 800]

interface Attack {
  /** What is sent to a node with that public key, to do something to a third address. */
  make(publicKey: Buffer, third: NodeAddress): readonly Uint8Array[]
  /** Whether the sender hears from the node when a member seals the same. The third address never does. */
  readonly isHeard?: boolean
}

const finds = async (one: Member, other: Member) =>
  (await found(one.router.lookup(KEY, never))).some(({ port }) => port === other.port)

/** Sends what `make` gives to a member, and holds that nobody gets a byte, that each is counted, and that the member works on. */
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
    // A member is told that nobody relays.
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
    // That the token is wrong.
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
      // A lookup is remembered for a while, so each asks for a key of its own.
      const keys = Array.from({ length: 300 }, (_, at) => `registry.example/team/app:${at}` as Key)
      member.router.advertise(keys)
      await member.router.settled(never)
      const [seal, before] = [sealing(STRANGER_KEY), asker.router.figures.refused]
      let sent = 0
      let isOver = false
      const guess = async () => {
        while (!isOver) {
          // The numbers of requests are sequential, so these are all that may be under way.
          const guessed = answer(sent & 0xffff, Buffer.concat([Buffer.from([0]), compact(attacker.address)]))
          await attacker.send(sent % 2 === 0 ? guessed : seal(guessed), asker.port)
          // Some thousand a second.
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
    // Each of these is told to begin at a member of the other swarm, too.
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
