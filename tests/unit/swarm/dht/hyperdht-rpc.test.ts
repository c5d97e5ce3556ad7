import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createDhtRpc, type DhtResponse } from '../../../../lib/swarm/dht/hyperdht-rpc.ts'

const KEYS = { publicKey: new Uint8Array(32).fill(1), secretKey: new Uint8Array(64).fill(2) }
const NODE = { host: '10.0.0.1', port: 5001, id: new Uint8Array(32).fill(3) }
const TOKEN = new Uint8Array(32).fill(4)

/** Requests that are all answered from there. */
const answeredFrom = (host: string, port: number) => {
  const response: DhtResponse = {
    from: { host, port, id: NODE.id },
    error: 0,
    token: TOKEN,
    closerNodes: [{ host: '10.0.0.9', port: 5001 }],
    value: TOKEN,
  }
  const sign = () => new Uint8Array(64)
  const parts = { request: async () => response, hash: () => NODE.id, signAnnounce: sign, signUnannounce: sign }
  return createDhtRpc(parts, KEYS)
}

test('createDhtRpc believes an answer of the node that was asked only: others can guess the number of a request', async () => {
  const outcomes = async (rpc: ReturnType<typeof answeredFrom>) => [
    (await rpc.ask(NODE, TOKEN, 100))?.closer.length,
    await rpc.store(NODE, TOKEN, TOKEN, [], 100),
    await rpc.remove(NODE, TOKEN, TOKEN, 100),
    await rpc.question(NODE, TOKEN, 100),
  ]
  assert.deepEqual(await outcomes(answeredFrom(NODE.host, NODE.port)), [1, 'done', 'done', TOKEN])
  assert.deepEqual(await outcomes(answeredFrom(NODE.host, 6001)), [undefined, undefined, undefined, undefined])
  assert.deepEqual(await outcomes(answeredFrom('10.0.0.2', NODE.port)), [undefined, undefined, undefined, undefined])
})
