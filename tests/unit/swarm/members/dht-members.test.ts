import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import type { Key } from '../../../../lib/oci/key.ts'
import { NetworkMap } from '../../../../lib/swarm/dht/network-map.ts'
import { createDhtMembers } from '../../../../lib/swarm/members/dht-members.ts'
import { compareDistance } from '../../../../lib/swarm/node.ts'
import { idOf } from '../../../doubles/simulated-dht.ts'
import { never } from '../../../fixtures/layout.ts'
import { createLogRecorder } from '../../../fixtures/log.ts'

const KEY = 'registry.example/team/app:1' as Key
const topicOf = (key: Key) => createHash('sha256').update(key).digest()
const nodeAt = (port: number) => ({ host: '10.0.0.1', port, id: idOf({ host: '10.0.0.1', port }) })

/** Members as the node at that port sees them. Its questions go nowhere. */
function membersAt(port: number) {
  const { log, lines } = createLogRecorder()
  const map = new NetworkMap(nodeAt(port))
  const rpc = { question: async () => new Uint8Array(40) }
  return { lines, map, members: createDhtMembers({ log, map, topicOf, rpc }) }
}

test('DhtMembers closest returns the known members closest to the topic, the same on every node', () => {
  fc.assert(
    fc.property(
      fc.uniqueArray(fc.nat(60), { minLength: 1, maxLength: 20 }),
      fc.nat(25),
      fc.string(),
      (ports, count, name) => {
        const key = name as Key
        const expected = ports.map(nodeAt).sort((a, b) => compareDistance(topicOf(key), a.id, b.id))
        for (const self of ports) {
          const { map, members } = membersAt(self)
          // A node is in its own map only after it has answered itself.
          for (const port of ports) if (port !== self || port % 2 === 0) map.answered(nodeAt(port), 0)
          assert.equal(members.size, ports.length)
          assert.deepEqual(
            members.closest(key, count).map(({ port }) => port),
            expected.slice(0, count).map(({ port }) => port),
          )
        }
      },
    ),
  )
})

test('DhtMembers counts on a silent member until it is lost', () => {
  const { map, members } = membersAt(1)
  map.answered(nodeAt(2), 0)
  map.silent(nodeAt(2), 1, 2)
  assert.deepEqual([members.size, members.closest(KEY, 2).length], [2, 2])
  map.lose(nodeAt(2), 3)
  assert.deepEqual([members.size, members.closest(KEY, 2).length], [1, 1])
})

test('DhtMembers returns the answer of the asked member, and none once the caller has gone', async () => {
  const { members } = membersAt(1)
  assert.deepEqual(await members.ask(nodeAt(2), new Uint8Array(8), never), new Uint8Array(40))
  assert.equal(await members.ask(nodeAt(2), new Uint8Array(8), AbortSignal.abort()), undefined)
})

test('DhtMembers logs a handler that fails, or whose answer is too long, and answers nothing', () => {
  const { lines, members } = membersAt(1)
  const ask = () => members.answerTo(new Uint8Array(8), nodeAt(2))
  assert.equal(ask(), undefined)
  assert.equal(lines.length, 0)
  for (const handler of [
    () => {
      throw new Error('broken')
    },
    () => new Uint8Array(1_025),
  ]) {
    members.answer(handler)
    assert.equal(ask(), undefined)
  }
  assert.deepEqual(
    lines.map(({ level, fields }) => [level, fields.peer]),
    new Array(2).fill(['error', { host: '10.0.0.1', port: 2 }]),
  )
})
