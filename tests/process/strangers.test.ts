/** Attacks of strangers on mirrors that they can reach. They cost little, and achieve nothing. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { type AddressInfo, connect, createServer as createNetServer, type Socket } from 'node:net'
import { test } from 'node:test'
import { silentLogger } from '../../lib/observe/log.ts'
import { digestKey, tagKey } from '../../lib/oci/key.ts'
import { createCredentials } from '../../lib/peers/credentials.ts'
import { createRecordStore } from '../../lib/swarm/dht/record-store.ts'
import { answerFrom, encodeRecords, LOOKUP } from '../../lib/swarm/dht/rpc.ts'
import { compact, type NodeAddress } from '../../lib/swarm/node.ts'
import { topicOf } from '../../lib/swarm/topic.ts'
import { ticketFor } from '../fixtures/credentials.ts'
import { exchange, requestText } from '../fixtures/http.ts'
import { digestOf, makeImage } from '../fixtures/image.ts'
import { layerPath, portOf, TAG_PATH, withMirrors } from '../fixtures/mirrors.ts'
import { announceTo, joinAsMember, rpcOf } from '../fixtures/swarm.ts'
import { waitFor } from '../fixtures/wait.ts'

const HOST = '127.0.0.1'
const KEY = new Uint8Array(32).fill(21)
/** In plain HTTP, where strangers get farthest. */
const FLAGS = { 'swarm-key': Buffer.from(KEY).toString('hex'), 'peer-transfer': 'plain' }
const OTHER_KEY = new Uint8Array(32).fill(22)
const image = makeImage({ layers: 1, layerSize: 200_000 })
const LAYER = image.contents.at(-1)?.descriptor ?? assert.fail('no layer')

const status = async (registry: string, path: string) => {
  const response = await fetch(`http://${registry}${path}`)
  await response.arrayBuffer()
  return response.status
}

test('mirror shows a stranger at its peer door nothing, whatever the stranger knows', async () => {
  await withMirrors(async ({ start }) => {
    const holder = await start(image, FLAGS)
    const port = portOf(holder.peer)
    const member = createCredentials([KEY])
    const long = createCredentials([KEY], { now: () => Date.now() - 10 * 60_000 })
    const path = layerPath(image)
    const shown = (asked: string, method = 'GET', from = member, door = holder.peer) =>
      ticketFor(asked, method, from, door)?.headers
    assert.equal((await exchange(port, requestText('GET', path, shown(path)))).status, 200)
    const missing = path.replace(LAYER.digest, digestOf(Buffer.from('nobody has this')))
    const answers = new Set<string>()
    for (const [asked, headers] of [
      [path, {}],
      [missing, {}],
      [TAG_PATH, {}],
      ['/v2/', {}],
      [path, shown(path, 'GET', createCredentials([OTHER_KEY]))],
      [path, shown(path, 'GET', createCredentials([new Uint8Array(32)]))],
      [path, shown(missing)],
      [path, shown(path, 'HEAD')],
      [path, shown(path, 'GET', member, '127.0.0.1:1')],
      [path, shown(path, 'GET', member, `127.0.0.2:${port}`)],
      [path, shown(path, 'GET', long)],
      [missing, shown(missing, 'GET', long)],
    ] as const) {
      const { status: code, body, headers: told } = await exchange(port, requestText('GET', asked, headers))
      const { date, connection, 'keep-alive': kept, ...rest } = told
      answers.add(JSON.stringify([code, rest, body.toString()]))
    }
    assert.equal(answers.size, 1, [...answers].join('\n'))
    assert.match([...answers][0] ?? '', /^\[403,/)
  })
})

/** A door that answers anybody, and the requests that it gets. */
async function withOpenDoor(
  use: (door: NodeAddress, count: () => { requests: number; connections: number }) => Promise<void>,
): Promise<void> {
  let requests = 0
  let connections = 0
  const door = createServer((_, outgoing) => {
    requests++
    outgoing.end('what strangers serve')
  })
  door.on('connection', () => connections++)
  await new Promise<void>((resolve) => door.listen(0, HOST, resolve))
  try {
    const { port } = door.address() as AddressInfo
    await use({ host: HOST, port }, () => ({ requests, connections }))
  } finally {
    door.closeAllConnections()
    await new Promise((resolve) => door.close(resolve))
  }
}

const TAG = tagKey({ registry: 'registry.example', repository: 'team/app', tag: '1' })

test('mirror sends no request to an address that a member merely names, and does not trust false announcements', async () => {
  await withMirrors(async ({ start }) => {
    const holder = await start(undefined, FLAGS)
    const asker = await start(undefined, { ...FLAGS, bootstrap: holder.peer })
    await withOpenDoor(async (third, seenThere) => {
      await withOpenDoor(async (address, seen) => {
        const dht = await joinAsMember(portOf(holder.peer), { swarmKey: KEY, port: address.port })
        try {
          // A member that answers lookups with the address of another node.
          const { onrequest } = dht
          let asked = 0
          dht.onrequest = (request) => {
            if (request.command !== LOOKUP) return onrequest.call(dht, request)
            asked++
            request.reply(encodeRecords([compact(third)], { run: 1, isFull: false, isWhole: false }))
            return true
          }
          await waitFor('the liar is asked', async () => {
            assert.equal(await status(asker.registry, TAG_PATH), 404)
            return asked > 0
          })
          assert.equal(await status(asker.registry, layerPath(image)), 404)
          for (const key of [digestKey(LAYER.digest), TAG]) {
            for (const node of [holder, asker].map(({ peer }) => ({ host: HOST, port: portOf(peer) })))
              assert.deepEqual(await announceTo(node, topicOf(KEY, key), rpcOf(dht)), [])
          }
          // After a false answer, the address is left alone for a while.
          for (const path of [layerPath(image), TAG_PATH]) assert.equal(await status(asker.registry, path), 404)
          await waitFor('the member is asked', async () => {
            assert.equal(await status(asker.registry, layerPath(image)), 404)
            return seen().requests > 0
          })
          assert.deepEqual(seenThere(), { requests: 0, connections: 0 })
        } finally {
          await dht.destroy({ force: true })
        }
      })
    })
  })
})

test("mirror gives nothing to a stranger with a capability for the stranger's own address", async () => {
  await withMirrors(async ({ start }) => {
    // The asker does not know the holder, and the stranger knows both. It passes requests on word for word.
    const holder = await start(image, FLAGS)
    const asker = await start(undefined, FLAGS)
    const answers: string[] = []
    const sockets = new Set<Socket>()
    const relay = createNetServer((socket) => {
      const onward = connect({ host: '127.0.0.1', port: portOf(holder.peer) })
      for (const [from, to] of [
        [socket, onward],
        [onward, socket],
      ] as const) {
        sockets.add(from)
        from.on('error', () => to.destroy())
        from.pipe(to)
      }
      onward.once('data', (head: Buffer) => answers.push(head.subarray(0, 12).toString('latin1')))
    })
    await new Promise<void>((resolve) => relay.listen(0, '127.0.0.1', resolve))
    const address = { host: '127.0.0.1', port: (relay.address() as AddressInfo).port }
    const dht = await joinAsMember(portOf(asker.peer), { swarmKey: KEY, port: address.port })
    const records = createRecordStore({ log: silentLogger })
    dht.onrequest = (request) => answerFrom(records, new Uint8Array(32), request, () => false)
    try {
      const asked = { host: HOST, port: portOf(asker.peer) }
      assert.deepEqual(await announceTo(asked, topicOf(KEY, digestKey(LAYER.digest)), rpcOf(dht)), [])
      await waitFor('the stranger is asked, and its answer is there', async () => {
        assert.equal(await status(asker.registry, layerPath(image)), 404)
        return answers.length > 0
      })
      assert.deepEqual(new Set(answers), new Set(['HTTP/1.1 403']))
      // Only the address was wrong.
      const ticket = ticketFor(layerPath(image), 'GET', createCredentials([KEY]), holder.peer)
      const request = requestText('GET', layerPath(image), ticket?.headers)
      assert.equal((await exchange(portOf(holder.peer), request)).status, 200)
    } finally {
      await dht.destroy({ force: true })
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => relay.close(resolve))
    }
  })
})
