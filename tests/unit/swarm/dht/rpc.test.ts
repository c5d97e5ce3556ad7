import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { silentLogger } from '../../../../lib/observe/log.ts'
import { createRecordStore } from '../../../../lib/swarm/dht/record-store.ts'
import {
  ANNOUNCE,
  answerFrom,
  createDhtRpc,
  type DhtParts,
  type DhtRequest,
  type DhtResponse,
  decodeRecords,
  encodeRecords,
  type IncomingRequest,
  LOOKUP,
  QUESTION,
  WITHDRAW,
} from '../../../../lib/swarm/dht/rpc.ts'
import { compact } from '../../../../lib/swarm/node.ts'

const PUBLIC_KEY = new Uint8Array(32).fill(1)
const NODE = { host: '10.0.0.1', port: 5001, id: new Uint8Array(32).fill(3) }
/** This node, as others see it. */
const SEEN = { host: '10.0.0.5', port: 5001 }
const ANNOUNCER = { host: '10.0.0.7', port: 5001 }
const TOKEN = new Uint8Array(32).fill(4)
const TOPIC = new Uint8Array(32).fill(5)
/** The node has all records of this topic. */
const WHOLE = new Uint8Array(32).fill(6)

/** Requests whose answers all come from that address. */
const answeredFrom = (host: string, port: number, seen: DhtParts['seen'] = () => undefined) => {
  const response: DhtResponse = {
    from: { host, port, id: NODE.id },
    to: SEEN,
    error: 0,
    token: TOKEN,
    closerNodes: [{ host: '10.0.0.9', port: 5001 }],
    value: TOKEN,
  }
  return createDhtRpc({ request: async () => response, hash: () => NODE.id, seen })
}

test('createDhtRpc believes an answer of the node that was asked only: others can guess the number of a request', async () => {
  const outcomes = async (rpc: ReturnType<typeof answeredFrom>) => [
    (await rpc.ask(NODE, TOPIC, 100))?.closer.length,
    await rpc.store(NODE, [TOPIC], TOKEN, 100),
    await rpc.remove(NODE, [TOPIC], TOKEN, 100),
    await rpc.question(NODE, TOKEN, 100),
    await rpc.identify(NODE, 100),
  ]
  assert.deepEqual(await outcomes(answeredFrom(NODE.host, NODE.port)), [1, [], [], TOKEN, TOKEN])
  assert.deepEqual(await outcomes(answeredFrom(NODE.host, 6001)), new Array(5).fill(undefined))
  assert.deepEqual(await outcomes(answeredFrom('10.0.0.2', NODE.port)), new Array(5).fill(undefined))
})

test('createDhtRpc tells where the node that was asked has seen this one, and nobody else', async () => {
  const told: unknown[] = []
  const seen: DhtParts['seen'] = (...both) => void told.push(both)
  await answeredFrom(NODE.host, 6001, seen).ask(NODE, TOPIC, 100)
  await answeredFrom(NODE.host, NODE.port, seen).ask(NODE, TOPIC, 100)
  assert.deepEqual(told, [[SEEN, NODE]])
})

/** A node with a bounded number of records of a topic, and requests to it from members at any address. */
function node(mostOfTopic: number) {
  const records = createRecordStore({ log: silentLogger }, { mostOfTopic })
  const ask = async (sent: DhtRequest, from: { readonly host: string; readonly port: number }) => {
    const response = { from: NODE, to: SEEN, error: 0, token: TOKEN, closerNodes: null }
    let answer: DhtResponse | undefined
    const request: IncomingRequest = {
      target: null,
      token: null,
      value: null,
      ...sent,
      from: { ...from, id: null },
      reply: (value) => {
        answer = { ...response, value }
      },
    }
    if (!answerFrom(records, PUBLIC_KEY, request, (topic) => topic === WHOLE))
      return { ...response, error: 1, value: null }
    return answer ?? assert.fail('no answer')
  }
  const rpcFrom = (from: { readonly host: string; readonly port: number }) =>
    createDhtRpc({ request: (request) => ask(request, from), hash: () => NODE.id })
  return { records, ask, rpcFrom }
}

test('answerFrom keeps a record under the address that it came from, and lets nobody else take it back', async () => {
  const { rpcFrom } = node(2)
  const [member, other] = [rpcFrom(ANNOUNCER), rpcFrom({ ...ANNOUNCER, port: 5002 })]
  const found = async () => (await other.ask(NODE, TOPIC, 100))?.records
  assert.deepEqual(await member.store(NODE, [TOPIC], TOKEN, 100), [])
  assert.deepEqual(await member.store(NODE, [TOPIC], TOKEN, 100), [])
  assert.deepEqual(await found(), [ANNOUNCER])
  assert.deepEqual(await other.remove(NODE, [TOPIC], TOKEN, 100), [])
  assert.equal((await found())?.length, 1)
  assert.deepEqual(await member.remove(NODE, [TOPIC], TOKEN, 100), [])
  assert.deepEqual(await found(), [])
})

test('answerFrom refuses what it has no room for, and says so to those who look', async () => {
  const { records, rpcFrom } = node(2)
  const at = (port: number) => rpcFrom({ ...ANNOUNCER, port })
  const isFull = async (topic = TOPIC) => (await at(1).ask(NODE, topic, 100))?.isFull
  assert.deepEqual(await at(1).store(NODE, [TOPIC], TOKEN, 100), [])
  assert.equal(await isFull(), false)
  assert.deepEqual(await at(2).store(NODE, [TOPIC], TOKEN, 100), [])
  assert.deepEqual(await at(3).store(NODE, [WHOLE, TOPIC], TOKEN, 100), [1])
  assert.deepEqual([await isFull(), await isFull(TOKEN), records.refused], [true, false, 1])
  assert.deepEqual(await at(2).store(NODE, [TOPIC], TOKEN, 100), [])
})

test('answerFrom says of which topics it has all records', async () => {
  const rpc = node(2).rpcFrom(ANNOUNCER)
  const isWhole = async (topic: Uint8Array) => (await rpc.ask(NODE, topic, 100))?.isWhole
  assert.deepEqual([await isWhole(TOPIC), await isWhole(WHOLE)], [false, true])
})

test('answerFrom says who the node is, and identify believes nothing that cannot be a public key', async () => {
  assert.deepEqual(await node(2).rpcFrom(ANNOUNCER).identify(NODE, 100), PUBLIC_KEY)
  for (const value of [null, new Uint8Array(31), new Uint8Array(33)]) {
    const response = { from: NODE, to: SEEN, error: 0, token: null, closerNodes: null, value }
    const rpc = createDhtRpc({ request: async () => response, hash: () => NODE.id })
    assert.equal(await rpc.identify(NODE, 100), undefined)
  }
})

test('answerFrom refuses a change without a token, and whatever else it does not read', async () => {
  const { ask, records } = node(2)
  const announcement = { command: ANNOUNCE, value: TOPIC, token: TOKEN }
  const { value: _value, ...aimless } = announcement
  const { token: _token, ...unproven } = announcement
  for (const wrong of [
    aimless,
    unproven,
    { ...announcement, value: new Uint8Array() },
    { ...announcement, value: new Uint8Array(33) },
    { ...announcement, value: new Uint8Array(32 * 33) },
    { command: WITHDRAW, value: TOPIC },
    { command: LOOKUP },
    { command: QUESTION, target: TOPIC, token: TOKEN },
    { command: 3, target: TOPIC, token: TOKEN },
  ])
    assert.equal((await ask(wrong, ANNOUNCER)).error, 1, JSON.stringify(wrong))
  assert.equal(records.size, 0)
})

const byte = fc.integer({ min: 0, max: 255 })
const address = fc
  .tuple(fc.tuple(byte, byte, byte, byte), fc.integer({ min: 1, max: 65_535 }))
  .map(([bytes, port]) => ({ host: bytes.join('.'), port }))
const run = fc.nat(0xffff_ffff)
test('decodeRecords gives back what encodeRecords wrote', () => {
  fc.assert(
    fc.property(
      fc.array(address, { maxLength: 20 }),
      run,
      fc.boolean(),
      fc.boolean(),
      (records, run, isFull, isWhole) => {
        const said = { run, isFull, isWhole }
        assert.deepEqual(decodeRecords(encodeRecords(records.map(compact), said)), { records, ...said })
      },
    ),
  )
})

test('decodeRecords takes anything, and gives no more records than are whole and fit an answer', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 1_400 }), (bytes) => {
      const { records } = decodeRecords(bytes)
      assert.ok(records.length <= 20)
      for (const { host, port } of records) {
        assert.match(host, /^(\d{1,3}\.){3}\d{1,3}$/)
        assert.ok(port > 0 && port <= 65_535)
      }
    }),
  )
  assert.deepEqual(decodeRecords(new Uint8Array()), { run: 0, records: [], isFull: false, isWhole: false })
})
