/** A member sends requests that a mirror never sends. They must neither end the process nor fill its memory. */
import assert from 'node:assert/strict'
import { createRequire } from 'node:module'
import process from 'node:process'
import { test } from 'node:test'
import HyperDHT from 'hyperdht'
import { type DhtResponse, LOOKUP, QUESTION } from '../../../lib/swarm/dht/rpc.ts'
import { withMembers } from '../../fixtures/members.ts'
import { joinAsMember } from '../../fixtures/swarm.ts'
import { waitFor } from '../../fixtures/wait.ts'

/** Commands of hyperdht. */
const PEER_HANDSHAKE = 0
const PEER_HOLEPUNCH = 1
const FIND_PEER = 2
const PLUGIN = 10
/** The answer to a command that a node refuses. */
const UNKNOWN_COMMAND = 1
/** 127.0.0.1, port 0. */
const NOWHERE = [127, 0, 0, 1, 0, 0]

type Send = (command: number, value: Iterable<number>, target?: Uint8Array) => Promise<DhtResponse | undefined>

/**
 * Runs `use` with a member's public key, and a function that sends it requests from another member, perhaps without an answer.
 */
async function withHostileMember(use: (send: Send, publicKey: Buffer) => Promise<void>): Promise<void> {
  await withMembers(async (start) => {
    const { port, id } = await start([])
    const hostile = await joinAsMember(port)
    const session = {
      _attach(request: { timeout: number }) {
        request.timeout = 100
      },
      _detach: () => undefined,
    }
    const send: Send = async (command, value, target = new Uint8Array(32).fill(7)) => {
      const message = { command, target, value: Uint8Array.from(value) }
      const sent = hostile.request(message, { host: '127.0.0.1', port }, { retry: false, session })
      return await sent.catch(() => undefined)
    }
    // Errors that would end a mirror. Not every test runner fails then.
    const fatal: unknown[] = []
    const note = (error: unknown) => fatal.push(error)
    process.on('uncaughtException', note).on('unhandledRejection', note)
    try {
      await use(send, Buffer.from(id, 'hex'))
      await waitFor('it answers as before', async () => (await send(LOOKUP, []))?.error === 0)
      assert.deepEqual(fatal, [])
    } finally {
      process.off('uncaughtException', note).off('unhandledRejection', note)
      await hostile.destroy({ force: true })
    }
  })
}

test('joinSwarm: a request that names port 0 ends nothing', async () => {
  await withHostileMember(async (send) => {
    const noise = [64, ...new Array<number>(64).fill(0)]
    for (let mode = 0; mode < 5; mode++) {
      await send(PEER_HANDSHAKE, [3, mode, ...noise, ...NOWHERE, ...NOWHERE])
      await send(PEER_HOLEPUNCH, [1, mode, 0, ...noise, ...NOWHERE])
    }
  })
})

interface Handshake {
  readonly handshake: { send(payload: Uint8Array): Uint8Array }
}

test('joinSwarm: a handshake of any length, with anything in it, ends nothing', async () => {
  const NoiseWrap = createRequire(import.meta.url)('hyperdht/lib/noise-wrap.js') as new (
    ...keys: unknown[]
  ) => Handshake
  await withHostileMember(async (send, publicKey) => {
    const target = HyperDHT.hash(publicKey)
    const greet = async (payload: readonly number[], length?: number) => {
      const noise = new NoiseWrap(HyperDHT.keyPair(), publicKey).handshake.send(Uint8Array.from(payload))
      const sent = noise.subarray(0, length)
      return await send(PEER_HANDSHAKE, [0, 0, sent.length, ...sent], target)
    }
    // A version that the node does not know.
    await waitFor('a handshake is answered', async () => (await greet([2]))?.value?.length === 80)
    const lengths = Array.from({ length: 20 }, (_, at) => 5 * at)
    await Promise.all(lengths.map((length) => greet([], length)))
    // Flags that announce missing fields, and an address with port 0.
    await Promise.all([1, 2, 4, 8, 16, 32, 64].map((flags) => greet([1, flags, 0, 1, 1, ...NOWHERE])))
  })
})

test('joinSwarm: a question that nobody here answers gets no answer, not even an error', async () => {
  await withHostileMember(async (send) => {
    const lengths = Array.from({ length: 12 }, (_, at) => 9 * at)
    const answers = await Promise.all(lengths.map((length) => send(QUESTION, new Array<number>(length).fill(1))))
    assert.deepEqual(new Set(answers), new Set([undefined]))
  })
})

test('joinSwarm: a command that no mirror needs is refused, and nothing of it is kept', async () => {
  await withHostileMember(async (send) => {
    // A busy machine may answer late.
    const isRefused = (command: number, value: Iterable<number>) =>
      waitFor(`command ${command} is refused`, async () => (await send(command, value))?.error === UNKNOWN_COMMAND)
    await isRefused(PEER_HOLEPUNCH, [0, 0, 0, 0])
    for (let command = FIND_PEER; command <= PLUGIN; command++) await isRefused(command, new Array<number>(40).fill(1))
  })
})
