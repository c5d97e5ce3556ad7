import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import fc from 'fast-check'
import { addressOf } from '../../../../lib/platform/address.ts'
import { Membership, type MembershipOptions, type SwarmConnection } from '../../../../lib/swarm/members/membership.ts'
import type { Peer } from '../../../../lib/swarm/router.ts'
import { waitFor } from '../../../fixtures/wait.ts'

const KEY = new Uint8Array(32).fill(1)
const NEXT = new Uint8Array(32).fill(2)
const HASH = new Uint8Array(64).fill(3)

/** One end of a connection in memory: what is written at one end comes out at the other, in a later turn. */
class End extends EventEmitter implements SwarmConnection {
  readonly remotePublicKey: Uint8Array
  readonly handshakeHash: Uint8Array
  readonly isInitiator: boolean
  readonly rawStream = new EventEmitter()
  readonly written: Uint8Array[] = []
  other: End | undefined
  destroyed = false
  keepAlive = 0
  timeout = 0

  constructor(remote: number, isInitiator: boolean, handshakeHash: Uint8Array = HASH) {
    super()
    this.remotePublicKey = new Uint8Array(32).fill(remote)
    this.isInitiator = isInitiator
    this.handshakeHash = handshakeHash
  }

  write(data: Uint8Array): boolean {
    this.written.push(data)
    const { other } = this
    if (other !== undefined) setImmediate(() => other.receive(data))
    return true
  }

  receive(data: Uint8Array): void {
    if (this.destroyed) return
    this.rawStream.emit('data', data)
    this.emit('data', data)
  }

  destroy(): void {
    if (this.destroyed) return
    this.destroyed = true
    setImmediate(() => {
      this.emit('close')
      this.other?.destroy()
    })
  }

  setKeepAlive(milliseconds: number): void {
    this.keepAlive = milliseconds
  }

  setTimeout(milliseconds: number): void {
    this.timeout = milliseconds
  }
}

/** Two ends that are connected. */
function pair(hashes: readonly [Uint8Array, Uint8Array] = [HASH, HASH]): readonly [initiator: End, responder: End] {
  const ends = [new End(2, true, hashes[0]), new End(1, false, hashes[1])] as const
  ends[0].other = ends[1]
  ends[1].other = ends[0]
  return ends
}

/** @param port of its door, by which others tell of it */
function membership(keys: readonly Uint8Array[], port: number, options: MembershipOptions = {}) {
  const told: string[] = []
  const door = { host: '10.0.0.1', port }
  const liveness = {
    seen: (peer: Peer) => told.push(`+${addressOf(peer)}`),
    gone: (peer: Peer) => told.push(`-${addressOf(peer)}`),
  }
  return { told, membership: new Membership(keys, door, liveness, options) }
}

const settled = async () => {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
}

for (const [what, a, b, proven] of [
  ['the same key', [KEY], [KEY], true],
  ['different keys', [KEY], [NEXT], false],
  ['both keys, each using another one', [KEY, NEXT], [NEXT, KEY], true],
  ['the used key of one being the only one of the other', [NEXT, KEY], [NEXT], true],
  ['a key that the other accepts no longer', [KEY], [NEXT, KEY].slice(0, 1), false],
] as const) {
  test(`Membership ${proven ? 'takes' : 'refuses'} a connection between nodes with ${what}`, async () => {
    const [one, two] = [membership(a, 1), membership(b, 2)]
    const [initiator, responder] = pair()
    one.membership.take(initiator)
    two.membership.take(responder)
    await settled()
    assert.deepEqual(one.told, proven ? ['+10.0.0.1:2'] : [])
    assert.deepEqual(two.told, proven ? ['+10.0.0.1:1'] : [])
    assert.equal(initiator.destroyed || responder.destroyed, !proven)
    one.membership.close()
    two.membership.close()
    await settled()
    assert.deepEqual(one.told, proven ? ['+10.0.0.1:2', '-10.0.0.1:2'] : [])
    assert.deepEqual(two.told, proven ? ['+10.0.0.1:1', '-10.0.0.1:1'] : [])
    assert.equal(one.membership.members.size + one.membership.unproven, 0)
  })
}

test('Membership refuses its own proof that is sent back', async () => {
  const { membership: own, told } = membership([KEY], 1)
  const end = new End(2, true)
  own.take(end)
  end.receive(end.written[0] ?? assert.fail('no proof'))
  assert.ok(end.destroyed)
  assert.deepEqual(told, [])
})

test('Membership refuses a proof that was made for another connection', async () => {
  // Who sits between two members relays all that they say, but has a handshake of its own with each.
  const [one, two] = [membership([KEY], 1), membership([KEY], 2)]
  const [initiator, responder] = pair([HASH, new Uint8Array(64).fill(4)])
  one.membership.take(initiator)
  two.membership.take(responder)
  await settled()
  assert.deepEqual([...one.told, ...two.told], [])
  assert.ok(initiator.destroyed && responder.destroyed)
})

test('Membership refuses a proof whose address was changed on its way', async () => {
  const { membership: own, told } = membership([KEY], 1)
  const { membership: other } = membership([KEY], 2)
  const [ownEnd, otherEnd] = [new End(2, true), new End(1, false)]
  other.take(otherEnd)
  own.take(ownEnd)
  const proof = Buffer.from(otherEnd.written[0] ?? assert.fail('no proof'))
  proof[proof.length - 1] = 3
  ownEnd.receive(proof)
  assert.ok(ownEnd.destroyed)
  assert.deepEqual(told, [])
  own.close()
  other.close()
})

test('Membership tells that a member is gone when the last connection to its address ends', async () => {
  const { membership: own, told } = membership([KEY], 1)
  // A node that was started again has another key, and the old connection falls silent later than the new one opens.
  const ends = [2, 3].map((remote) => {
    const [initiator, responder] = [new End(remote, true), new End(1, false)]
    initiator.other = responder
    responder.other = initiator
    own.take(initiator)
    membership([KEY], 2).membership.take(responder)
    return initiator
  })
  await settled()
  assert.deepEqual(told, ['+10.0.0.1:2', '+10.0.0.1:2'])
  ends[0]?.destroy()
  await settled()
  assert.equal(told.length, 2)
  ends[1]?.destroy()
  await settled()
  assert.deepEqual(told.slice(2), ['-10.0.0.1:2'])
})

test('Membership refuses whatever is no proof', async () => {
  const { membership: own, told } = membership([KEY], 1)
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 1, maxLength: 90 }), (bytes) => {
      const end = new End(2, true)
      own.take(end)
      end.receive(bytes)
      assert.ok(end.destroyed)
    }),
  )
  assert.deepEqual(told, [])
  await settled()
  assert.equal(own.unproven, 0)
})

test('Membership ends the connection of a member that says more than its proof', async () => {
  const [one, two] = [membership([KEY], 1), membership([KEY], 2)]
  const [initiator, responder] = pair()
  one.membership.take(initiator)
  two.membership.take(responder)
  await settled()
  responder.write(new Uint8Array([1]))
  await settled()
  assert.deepEqual(one.told, ['+10.0.0.1:2', '-10.0.0.1:2'])
  assert.ok(initiator.destroyed)
})

test('Membership ends a connection that says nothing in time, and one that says too much before', async () => {
  const { membership: own } = membership([KEY], 1, { proofTimeout: 30 })
  const silent = new End(2, false)
  own.take(silent)
  assert.equal(own.unproven, 1)
  await waitFor('the end of the silent one', () => silent.destroyed)
  const babbling = new End(3, false)
  own.take(babbling)
  // A message that never ends: bytes come, but no message does.
  for (let count = 0; count < 20 && !babbling.destroyed; count++) babbling.rawStream.emit('data', new Uint8Array(100))
  assert.ok(babbling.destroyed)
  await settled()
  assert.equal(own.unproven, 0)
})

test('Membership keeps a bounded number of connections that have proven nothing, the newest ones', async () => {
  const { membership: own } = membership([KEY], 1, { maxUnproven: 3 })
  const ends = Array.from({ length: 10 }, (_, index) => new End(index, false))
  for (const end of ends) {
    own.take(end)
    await settled()
    assert.ok(own.unproven <= 3)
  }
  assert.deepEqual(
    ends.map(({ destroyed }) => destroyed),
    ends.map((_, index) => index < 7),
  )
  own.close()
  assert.ok(ends.every(({ destroyed }) => destroyed))
})

test('Membership has room for a bounded number of members', async () => {
  const { membership: own, told } = membership([KEY], 1, { maxMembers: 2 })
  for (let id = 10; id < 14; id++) {
    const [initiator, responder] = [new End(id, true), new End(1, false)]
    initiator.other = responder
    responder.other = initiator
    own.take(initiator)
    membership([KEY], id).membership.take(responder)
    await settled()
    assert.equal(initiator.destroyed, id >= 12)
  }
  assert.deepEqual(told, ['+10.0.0.1:10', '+10.0.0.1:11'])
  assert.equal(own.members.size, 2)
  own.close()
})

test('Membership asks every connection for signs of life', () => {
  const { membership: own } = membership([KEY], 1, { keepAlive: 11, silence: 22 })
  const end = new End(2, true)
  own.take(end)
  assert.deepEqual([end.keepAlive, end.timeout], [11, 22])
  own.close()
  const late = new End(3, true)
  own.take(late)
  assert.ok(late.destroyed)
})
