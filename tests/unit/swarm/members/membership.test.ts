import assert from 'node:assert/strict'
import { EventEmitter } from 'node:events'
import { test } from 'node:test'
import { addressOf } from '../../../../lib/platform/address.ts'
import {
  createMembership,
  type MembershipOptions,
  type SwarmConnection,
} from '../../../../lib/swarm/members/membership.ts'
import type { Peer } from '../../../../lib/swarm/router.ts'
import { waitFor } from '../../../fixtures/wait.ts'

const HOST = '10.0.0.1'

class RawEnd extends EventEmitter {
  readonly remoteHost: string | null
  readonly remotePort: number

  constructor({ host, port }: { readonly host: string | null; readonly port: number }) {
    super()
    this.remoteHost = host
    this.remotePort = port
  }
}

/** One end of a connection in memory. Bytes that are written at one end come out at the other, in a later turn. */
class End extends EventEmitter implements SwarmConnection {
  readonly remotePublicKey: Uint8Array
  readonly rawStream: RawEnd
  other: End | undefined
  destroyed = false
  signs = 0

  /** @param port of the other side, from which its public key is made */
  constructor(port: number, key = port, host: string | null = HOST) {
    super()
    this.remotePublicKey = new Uint8Array(32).fill(key)
    this.rawStream = new RawEnd({ host, port })
  }

  write(data: Uint8Array): boolean {
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
    assert.equal(milliseconds, 0)
  }

  trySend(message: Uint8Array): void {
    this.signs++
    if (this.other?.destroyed === false) this.other.emit('message', message)
  }
}

/** Two connected ends: that of the node at port 1, and that of the node at another port. */
function pair(port = 2, key = port): readonly [End, End] {
  const ends = [new End(port, key), new End(1)] as const
  ends[0].other = ends[1]
  ends[1].other = ends[0]
  return ends
}

function membership(options: MembershipOptions = {}) {
  const told: string[] = []
  const liveness = {
    seen: (peer: Peer) => told.push(`+${addressOf(peer)}`),
    gone: (peer: Peer) => told.push(`-${addressOf(peer)}`),
  }
  return { told, membership: createMembership(liveness, options) }
}

const settled = async () => {
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve))
}

test('Membership reports a member after its greeting, by the source of its packets, and when it is gone', async () => {
  const [one, two] = [membership(), membership()]
  const [own, other] = pair()
  one.membership.take(own)
  await settled()
  assert.deepEqual([one.told, [...one.membership.members], own.destroyed], [[], [], false])
  two.membership.take(other)
  await settled()
  assert.deepEqual(one.told, ['+10.0.0.1:2'])
  assert.deepEqual([...one.membership.members], ['02'.repeat(32)])
  one.membership.close()
  two.membership.close()
  await settled()
  assert.deepEqual(one.told, ['+10.0.0.1:2', '-10.0.0.1:2'])
  assert.deepEqual([one.membership.members.size, own.destroyed], [0, true])
})

test('Membership reports a member as gone when the last connection to its address ends', async () => {
  const { membership: own, told } = membership()
  // A restarted node has another key, and its old connection falls silent after the new one opens.
  const ends = [2, 3].map((key) => {
    const [end, other] = pair(2, key)
    own.take(end)
    membership().membership.take(other)
    return end
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

test('Membership ends the connection of a member that says more than its greeting', async () => {
  const [one, two] = [membership(), membership()]
  const [own, other] = pair()
  one.membership.take(own)
  two.membership.take(other)
  await settled()
  other.write(new Uint8Array([1]))
  await settled()
  assert.deepEqual(one.told, ['+10.0.0.1:2', '-10.0.0.1:2'])
  assert.ok(own.destroyed)
})

test('Membership ends a connection that says nothing in time, and one whose message never ends', async () => {
  const { membership: own, told } = membership({ greetingTimeout: 30 })
  const silent = new End(2)
  own.take(silent)
  assert.ok(!silent.destroyed)
  await waitFor('the end of the silent one', () => silent.destroyed)
  for (const greeted of [false, true]) {
    const [babbling, other] = pair(3)
    own.take(babbling)
    if (greeted) other.write(new Uint8Array(1))
    await settled()
    // Bytes come, but no message does.
    for (let count = 0; count < 20 && !babbling.destroyed; count++) babbling.rawStream.emit('data', new Uint8Array(100))
    assert.ok(babbling.destroyed)
  }
  await settled()
  assert.deepEqual(told, ['+10.0.0.1:3', '-10.0.0.1:3'])
})

test('Membership keeps a bounded number of connections', async () => {
  const { membership: own, told } = membership({ maxMembers: 2 })
  const ends: End[] = []
  for (let port = 10; port < 14; port++) {
    const [end, other] = pair(port)
    own.take(end)
    membership().membership.take(other)
    await settled()
    assert.equal(end.destroyed, port >= 12)
    ends.push(end)
  }
  assert.deepEqual(told, ['+10.0.0.1:10', '+10.0.0.1:11'])
  assert.equal(own.members.size, 2)
  ends[0]?.destroy()
  await settled()
  const next = new End(14)
  own.take(next)
  assert.ok(!next.destroyed)
  own.close()
  assert.ok(next.destroyed)
})

test('Membership sends signs of life on all connections at a time, and accepts no closed connection', async () => {
  const { membership: own } = membership({ keepAlive: 11 })
  const ends = [new End(2), new End(5), new End(6)]
  for (const end of ends) own.take(end)
  const [end] = ends as [End]
  await waitFor('three signs of life', () => end.signs >= 3)
  assert.ok(ends.every(({ signs }) => signs === end.signs))
  const closed = new End(0, 3, null)
  own.take(closed)
  assert.ok(closed.destroyed)
  own.close()
  const late = new End(4)
  own.take(late)
  assert.ok(late.destroyed)
  const { signs } = end
  const other = membership({ keepAlive: 11 }).membership
  const living = new End(7)
  other.take(living)
  await waitFor('three signs of life of another one', () => living.signs >= 3)
  other.close()
  assert.equal(end.signs, signs)
})

test('Membership ends a connection whose other side gives no sign of life, and no other', async () => {
  // Long, so that late beats on a busy machine do not count as silence.
  const [one, two] = [membership({ keepAlive: 50, silence: 500 }), membership({ keepAlive: 50, silence: 500 })]
  const [own, other] = pair()
  one.membership.take(own)
  two.membership.take(other)
  const dead = new End(3)
  one.membership.take(dead)
  dead.receive(new Uint8Array(1))
  await waitFor('the end of the silent one', () => dead.destroyed)
  await settled()
  assert.deepEqual(one.told.slice(-1), ['-10.0.0.1:3'])
  assert.ok(!own.destroyed && one.membership.members.size === 1)
  one.membership.close()
  two.membership.close()
})
