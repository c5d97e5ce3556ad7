/** What strangers can do to mirrors that they reach: nothing but cost a little. */
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { type AddressInfo, connect, createServer as createNetServer, type Socket } from 'node:net'
import { test } from 'node:test'
import HyperDHT from 'hyperdht'
import { digestKey, tagKey } from '../../lib/oci/key.ts'
import { createCredentials } from '../../lib/peers/credentials.ts'
import { AnnouncementSeal } from '../../lib/swarm/dht/seal.ts'
import type { NodeAddress } from '../../lib/swarm/node.ts'
import { topicOf } from '../../lib/swarm/realm.ts'
import { ticketFor } from '../fixtures/credentials.ts'
import { exchange, requestText } from '../fixtures/http.ts'
import { digestOf, makeImage } from '../fixtures/image.ts'
import { layerPath, portOf, TAG_PATH, withMirrors } from '../fixtures/mirrors.ts'
import { joinAsMember } from '../fixtures/swarm.ts'
import { waitFor } from '../fixtures/wait.ts'

const KEY = new Uint8Array(32).fill(21)
const KEY_TEXT = Buffer.from(KEY).toString('hex')
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
    const holder = await start(image, { 'swarm-key': KEY_TEXT })
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

async function isAnnounced(dht: HyperDHT, topic: Uint8Array, publicKey: Uint8Array): Promise<boolean> {
  for await (const { peers } of dht.lookup(topic)) {
    if (peers.some((peer: { readonly publicKey: Uint8Array }) => Buffer.from(peer.publicKey).equals(publicKey)))
      return true
  }
  return false
}

test('mirror asks no stranger that has announced itself, even to the right topics', async () => {
  await withMirrors(async ({ start }) => {
    const holder = await start(undefined, { 'swarm-key': KEY_TEXT })
    const asker = await start(undefined, { 'swarm-key': KEY_TEXT, bootstrap: holder.peer })
    // A door that would answer anybody anything, and an honest node of the DHT, which learns topics by being one.
    let requests = 0
    const sockets = new Set<Socket>()
    const door = createServer((_, outgoing) => {
      requests++
      outgoing.end('what strangers serve')
    })
    door.on('connection', (socket) => sockets.add(socket))
    await new Promise<void>((resolve) => door.listen(0, '127.0.0.1', resolve))
    const address = { host: '127.0.0.1', port: (door.address() as AddressInfo).port }
    const dht = await joinAsMember(portOf(holder.peer), KEY)
    try {
      const seal = new AnnouncementSeal(KEY)
      const guess = new AnnouncementSeal(OTHER_KEY)
      for (const [key, path] of [
        [digestKey(LAYER.digest), layerPath(image)],
        [tagKey({ registry: 'registry.example', repository: 'team/app', tag: '1' }), TAG_PATH],
      ] as const) {
        const topic = topicOf(KEY, key)
        // A node keeps the first record of a key for minutes, so each announcement is made with a key of its own.
        const announce = async (addressesOf: (publicKey: Uint8Array) => readonly NodeAddress[]) => {
          const keyPair = HyperDHT.keyPair()
          await dht.announce(topic, keyPair, addressesOf(keyPair.publicKey)).finished()
          assert.ok(await isAnnounced(dht, topic, keyPair.publicKey), 'the announcement is there to be found')
          assert.equal(await status(asker.registry, path), 404)
        }
        await announce(() => [address])
        await announce(() => [address, address, address])
        await announce((publicKey) => guess.seal(topic, publicKey, address))
        assert.deepEqual([requests, sockets.size], [0, 0], 'the stranger was not even connected to')
        // Where a member's address has come to belong to a stranger, its announcement still counts: it is asked then, and not believed.
        await announce((publicKey) => seal.seal(topic, publicKey, address))
        // Who was not believed once is left alone for a while, at that address.
        await waitFor('the stranger is asked', async () => {
          assert.equal(await status(asker.registry, path), 404)
          return requests > 0
        })
        requests = 0
        for (const socket of sockets) socket.destroy()
        sockets.clear()
      }
    } finally {
      await dht.destroy({ force: true })
      for (const socket of sockets) socket.destroy()
      await new Promise((resolve) => door.close(resolve))
    }
  })
})

test('mirror gives nothing to a stranger that shows it a capability meant for the address where the stranger listens', async () => {
  await withMirrors(async ({ start }) => {
    // The asker does not know the holder, and the stranger knows both: it passes on what it is asked, word by word.
    const holder = await start(image, { 'swarm-key': KEY_TEXT })
    const asker = await start(undefined, { 'swarm-key': KEY_TEXT })
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
    const dht = await joinAsMember(portOf(asker.peer), KEY)
    try {
      const topic = topicOf(KEY, digestKey(LAYER.digest))
      const keyPair = HyperDHT.keyPair()
      const sealed = new AnnouncementSeal(KEY).seal(topic, keyPair.publicKey, address)
      await dht.announce(topic, keyPair, sealed).finished()
      await waitFor('the stranger is asked, and its answer is there', async () => {
        assert.equal(await status(asker.registry, layerPath(image)), 404)
        return answers.length > 0
      })
      assert.deepEqual(new Set(answers), new Set(['HTTP/1.1 403']))
      // It is the address alone that was wrong.
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
