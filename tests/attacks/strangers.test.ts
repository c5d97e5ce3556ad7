/** What reaches a node of the swarm from a sender without the swarm key: nothing comes back, and all of it is counted. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import type { Key } from '../../lib/oci/key.ts'
import { never } from '../fixtures/layout.ts'
import { found, withMembers } from '../fixtures/members.ts'
import { waitFor } from '../fixtures/wait.ts'
import { Attacker, handshakeFor, request, sealing, withoutFatalErrors } from './datagrams.ts'

const STRANGER_KEY = new Uint8Array(32).fill(99)
const KEY = 'registry.example/team/app:1' as Key
/** Datagrams that are sent at once. */
const BATCH = 20

/** Sends what `make` gives to a member, and holds that it gets no byte, that each is counted, and that the member works on. */
async function nothingComesBack(make: (publicKey: Buffer) => readonly Uint8Array[]): Promise<void> {
  await withMembers((start) =>
    withoutFatalErrors(async () => {
      const member = await start([])
      const asker = await start([member])
      member.router.advertise([KEY])
      const before = member.router.figures.refused
      const [attacker, third] = [await Attacker.start(), await Attacker.start()]
      try {
        const datagrams = make(Buffer.from(member.id, 'hex'))
        for (const [index, bytes] of datagrams.entries()) {
          await attacker.send(bytes, member.port)
          // A few at a time: a system drops what does not fit its buffer.
          if (index % BATCH !== BATCH - 1 && index < datagrams.length - 1) continue
          await waitFor('all are counted', () => member.router.figures.refused - before === index + 1)
        }
        await waitFor('a lookup finds the member', async () =>
          (await found(asker.router.lookup(KEY, never))).some(({ port }) => port === member.port),
        )
        assert.deepEqual([attacker.received, third.received], [0, 0])
        assert.equal(
          member.lines.filter(({ level, event }) => level === 'warn' && event.startsWith('datagrams refused')).length,
          1,
          'one warning a minute',
        )
      } finally {
        await Promise.all([attacker.close(), third.close()])
      }
    }),
  )
}

test('random datagrams of a stranger get no answer and are counted', async () => {
  await nothingComesBack(() => Array.from({ length: 500 }, (_, i) => randomBytes(1 + ((i * 31) % 1_400))))
})

test('Noise handshakes of a stranger get no answer and are counted', async () => {
  await nothingComesBack((publicKey) => Array.from({ length: 100 }, () => handshakeFor(publicKey)))
})

test('no command of the DHT gets an answer unless it is sealed, whatever it asks', async () => {
  await nothingComesBack(() =>
    Array.from({ length: 256 }, (_, command) => request(command, randomBytes(32), randomBytes(40))),
  )
})

test('packets of streams get no answer unless they are sealed', async () => {
  await nothingComesBack(() =>
    Array.from({ length: 64 }, (_, flags) => Buffer.concat([Buffer.from([0xff, 1, flags, 0]), randomBytes(24)])),
  )
})

test('what a stranger seals under a key of its own is as worthless', async () => {
  const seal = sealing(STRANGER_KEY)
  await nothingComesBack(() =>
    Array.from({ length: 16 }, (_, command) => seal(request(command, randomBytes(32), randomBytes(40)))),
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
