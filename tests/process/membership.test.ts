/** Membership, announcements and rotation of keys, between real nodes of a swarm on loopback. */
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { test } from 'node:test'
import type { Key } from '../../lib/oci/key.ts'
import type { SwarmOptions } from '../../lib/swarm/swarm.ts'
import { SWARM_KEY } from '../fixtures/credentials.ts'
import { never } from '../fixtures/layout.ts'
import { found, type Member, withMembers } from '../fixtures/members.ts'
import { commandOf } from '../fixtures/process.ts'
import { freePort } from '../fixtures/swarm.ts'
import { waitFor, within } from '../fixtures/wait.ts'

const STRANGER_KEY = new Uint8Array(32).fill(8)
const NEXT_KEY = new Uint8Array(32).fill(9)
const KEY = `sha256:${'a'.repeat(64)}` as Key

const sees = (one: Member, other: Member) => one.members.has(other.port)
const meet = async (...nodes: readonly Member[]) => {
  const all = () => nodes.every((one) => nodes.every((other) => one === other || sees(one, other)))
  await waitFor('all are connected', all)
}
/** Whether a lookup finds the other member; it stops as soon as it does. */
const finds = async (one: Member, other: Member) => {
  for await (const { port } of one.router.lookup(KEY, never)) if (port === other.port) return true
  return false
}

/** Whether the other member answers a question. */
const ask = async (one: Member, other: Member) => {
  const answer = await one.router.members.ask({ host: '127.0.0.1', port: other.port }, new Uint8Array(1), never)
  return answer === undefined ? 'silent' : 'answered'
}

test('joinSwarm connects members with each other, whichever comes first, and reports who is seen and gone', async () => {
  await withMembers(async (start) => {
    const a = await start([])
    const b = await start([a])
    const c = await start([a])
    await meet(a, b, c)
    await b.router.close()
    await waitFor('b is gone', () => !sees(a, b) && !sees(c, b))
    assert.ok(sees(a, c) && sees(c, a))
    assert.deepEqual(
      a.told.filter((entry) => entry.endsWith(String(b.port))),
      [`+${b.port}`, `-${b.port}`],
    )
  })
})

test('joinSwarm keeps quiet connections, and notices a member that is killed', async () => {
  await withMembers(async (start) => {
    // Long, because the member may lack a processor before it is killed.
    const membership = { keepAlive: 100, silence: 1_200 }
    const a = await start([], { membership })
    const b = await start([a], { membership })
    await meet(a, b)
    const [command, ...args] = commandOf(new URL('../fixtures/swarm-node.ts', import.meta.url))
    const child = spawn(command, [...args, String(a.port)], { stdio: ['ignore', 'pipe', 'inherit'] })
    try {
      const [line] = await within('the port of the node', once(child.stdout, 'data'))
      const port = Number(String(line))
      await waitFor('it is connected', () => a.members.has(port) && b.members.has(port))
      child.kill('SIGKILL')
      const killed = performance.now()
      await waitFor('it is gone', () => !a.members.has(port) && !b.members.has(port))
      // If nobody ends a connection, only its silence shows that it is dead.
      assert.ok(performance.now() - killed > 300)
    } finally {
      child.kill('SIGKILL')
    }
    assert.deepEqual([a.told.filter((entry) => entry.endsWith(String(b.port))).length, sees(b, a)], [1, true])
  })
})

test('joinSwarm does not answer a stranger, and does not find what a stranger announces', async () => {
  await withMembers(async (start) => {
    const a = await start([])
    const stranger = await start([a], { swarmKeys: [STRANGER_KEY] })
    const b = await start([a, stranger])
    await meet(a, b)
    a.router.advertise([KEY])
    stranger.router.advertise([KEY])
    await Promise.all([a.router.settled(never), stranger.router.settled(never)])
    await waitFor('b finds a', () => finds(b, a))
    assert.deepEqual(await found(stranger.router.lookup(KEY, never)), [])
    assert.ok(!(await finds(b, stranger)))
    a.router.members.answer(() => new Uint8Array(1))
    stranger.router.members.answer(() => new Uint8Array(1))
    assert.deepEqual(await Promise.all([ask(b, a), ask(stranger, a), ask(b, stranger)]), [
      'answered',
      'silent',
      'silent',
    ])
    assert.deepEqual(
      [stranger.members.size, a.members.has(stranger.port), b.members.has(stranger.port)],
      [0, false, false],
    )
  })
})

test('joinSwarm changes its key node by node, and at every moment all nodes find each other', async () => {
  await withMembers(async (start) => {
    const nodes: Member[] = []
    /** Starts a node, or starts it again at its address. */
    const restart = async (index: number, swarmKeys: SwarmOptions['swarmKeys']) => {
      const before = nodes[index]
      await before?.router.close()
      const self = { host: '127.0.0.1', port: before?.port ?? (await freePort()) }
      const node = await start(
        nodes.filter((other) => other !== before),
        { swarmKeys, self },
      )
      nodes[index] = node
      node.router.members.answer((question) => question)
      node.router.advertise([KEY])
      for (const other of nodes) {
        if (other === node) continue
        await waitFor('they find each other', async () => (await finds(node, other)) && (await finds(other, node)))
        await waitFor('they are connected', () => sees(node, other) && sees(other, node))
        assert.deepEqual(await Promise.all([ask(node, other), ask(other, node)]), ['answered', 'answered'])
      }
    }
    for (const keys of [
      [SWARM_KEY],
      [SWARM_KEY, NEXT_KEY],
      [NEXT_KEY, SWARM_KEY],
      [NEXT_KEY],
    ] satisfies SwarmOptions['swarmKeys'][]) {
      for (let index = 0; index < 3; index++) await restart(index, keys)
    }
    const late = await start(nodes)
    assert.equal((await found(late.router.lookup(KEY, never))).length, 0, 'the old key is worthless in the end')
  })
})

test('joinSwarm keeps working while its port is flooded', async () => {
  await withMembers(async (start) => {
    const a = await start([])
    const b = await start([a])
    await meet(a, b)
    a.router.advertise([KEY])
    await a.router.settled(never)
    const sockets = Array.from({ length: 4 }, () => createSocket('udp4'))
    const before = process.memoryUsage().rss
    // Noise, broken and well-formed requests of the DHT, packets for streams that do not exist, from several addresses.
    const first = [0x03, 0x13, 0x23, 0xff, 0x00]
    let answered = 0
    for (const socket of sockets) socket.on('message', () => answered++)
    for (let round = 0; round < 100; round++) {
      for (const socket of sockets) {
        for (const byte of first) {
          const packet = Buffer.alloc(20 + ((round * 37) % 1_000), round)
          packet[0] = byte
          packet[1] = byte === 0xff ? 1 : round & 0xff
          socket.send(packet, a.port, '127.0.0.1')
        }
      }
      if (round % 20 === 0) assert.ok(await finds(b, a), `not found in round ${round}`)
    }
    await waitFor('b finds a', () => finds(b, a))
    assert.ok(sees(a, b) && sees(b, a))
    const grown = process.memoryUsage().rss - before
    assert.ok(grown < 64 * 1024 * 1024, `${grown} bytes`)
    assert.equal(answered, 0, 'strangers get no answer')
    for (const socket of sockets) socket.close()
  })
})
