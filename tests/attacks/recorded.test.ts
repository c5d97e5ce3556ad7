/** What an attacker can do with a recorded datagram. */
import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { QUESTION } from '../../lib/swarm/dht/rpc.ts'
import { withMembers } from '../fixtures/members.ts'
import { waitFor } from '../fixtures/wait.ts'
import { Attacker, idAt, request, sealing, withAttackers } from './datagrams.ts'

/** A command of hyperdht, which every node answers with a token and with what it knows. */
const LOOKUP = 3

test('a recorded request is answered once, wherever it is sent from, and not at all after the tolerated skew', async () => {
  await withMembers(async (start) => {
    const member = await start([])
    const [owner, thief] = [await Attacker.start(), await Attacker.start()]
    const refused = () => member.router.figures.refused
    try {
      const lookup = request(LOOKUP, randomBytes(32), Buffer.alloc(0))
      const recorded = sealing()(lookup)
      await owner.send(recorded, member.port)
      await waitFor('its owner gets the answer', () => owner.received > 0)
      const answered = owner.received
      for (let i = 0; i < 50; i++) await (i % 2 === 0 ? thief : owner).send(recorded, member.port)
      await waitFor('each repetition is refused', () => refused() === 50)
      for (const age of [61_500, 600_000, -61_500]) {
        const [before, old] = [refused(), sealing(undefined, () => Date.now() - age)(lookup)]
        await thief.send(old, member.port)
        await waitFor(`one of ${age} ms ago is refused`, () => refused() === before + 1)
      }
      assert.deepEqual([thief.received, owner.received], [0, answered])
      const fresh = sealing()(request(LOOKUP, randomBytes(32), Buffer.alloc(0)))
      await owner.send(fresh, member.port)
      await waitFor('a new request is answered', () => owner.received > answered)
    } finally {
      await Promise.all([owner.close(), thief.close()])
    }
  })
})

test('a question that was recorded on its way to another node is not taken for one of whoever sends it', async () => {
  await withMembers(async (start) => {
    const member = await start([])
    const asked: string[] = []
    member.router.members.answer((question, { port }) => {
      asked.push(`${port}: ${Buffer.from(question)}`)
      return question
    })
    await withAttackers(2, async (owner, thief) => {
      const id = idAt(owner.address)
      const send = (from: Attacker, text: string) =>
        from.send(sealing()(request(QUESTION, randomBytes(32), Buffer.from(text), { id })), member.port)
      await send(thief, 'recorded')
      await send(owner, 'sent')
      await waitFor('its owner is heard', () => asked.length > 0 && owner.received > 0)
      assert.deepEqual(asked, [`${owner.address.port}: sent`])
    })
  })
})
