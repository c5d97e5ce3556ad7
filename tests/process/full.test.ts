/** Holders whose places are all taken, or that very many nodes ask at once: busy is neither dead nor without content. */
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { test } from 'node:test'
import { createCredentials } from '../../lib/peers/credentials.ts'
import { ticketFor } from '../fixtures/credentials.ts'
import { exchange, requestText } from '../fixtures/http.ts'
import { digestOf, makeImage } from '../fixtures/image.ts'
import { layerPath, portOf, withMirrors } from '../fixtures/mirrors.ts'
import { waitFor, within } from '../fixtures/wait.ts'

const KEY = new Uint8Array(32).fill(21)
/** In plain HTTP, because the tests themselves speak to the peer door. */
const KEY_FLAG = { 'swarm-key': Buffer.from(KEY).toString('hex'), 'peer-transfer': 'plain' }
/** A holder with one place. At this rate its layer takes 40 s. */
const FULL = { ...KEY_FLAG, 'max-transfers': '1', 'max-upload-rate': '100k' }
/** Milliseconds for an answer: 2 s for the lookup here, 3 s for the race, and a reserve for a busy machine. */
const BOUND = 15_000
const image = makeImage({ layers: 1, layerSize: 4_000_000 })
const LARGE = layerPath(image)
const CONFIG = image.contents.at(-2)?.descriptor ?? assert.fail('no config')
const SMALL = LARGE.replace(image.contents.at(-1)?.descriptor.digest ?? '', CONFIG.digest)

/** The headers with which a member asks this door. */
const shown = (path: string, door: string) => ticketFor(path, 'GET', createCredentials([KEY]), door)?.headers

/**
 * Takes a place of a peer door until the returned function is called. The door may need a moment to see that the last place is
 * free.
 */
async function occupy(door: string): Promise<() => void> {
  return await waitFor('a place', async () => {
    const socket = connect({ host: '127.0.0.1', port: portOf(door) })
    const answer = await new Promise<Buffer>((resolve, reject) => {
      socket.once('error', reject)
      socket.once('data', resolve)
      socket.write(requestText('GET', LARGE, shown(LARGE, door)))
    })
    socket.on('error', () => undefined)
    if (answer.toString('latin1').startsWith('HTTP/1.1 200 ')) return () => socket.destroy()
    socket.destroy()
    return undefined
  })
}

/** Pulls the small contents through a registry door, and checks every hit. Returns the status. */
async function pull(registry: string): Promise<number> {
  const response = await fetch(`http://${registry}${SMALL}`)
  const body = new Uint8Array(await response.arrayBuffer())
  if (response.status === 200) {
    assert.equal(response.headers.get('x-swarmirror-source'), 'peer')
    assert.equal(digestOf(body), CONFIG.digest)
  }
  return response.status
}

/** How many times a busy door refused this node, by its own count. */
async function refusals(admin: string): Promise<number> {
  const text = await (await fetch(`http://${admin}/metrics`)).text()
  return Number(/^swarmirror_peer_requests_total\{outcome="busy"\} (\d+)$/m.exec(text)?.[1] ?? 0)
}

test('mirror with a full peer door says so at once, and the asker waits for the only holder, or asks the next one', async () => {
  await withMirrors(async ({ start }) => {
    const holder = await start(image, FULL)
    const asker = await start(undefined, { ...KEY_FLAG, bootstrap: holder.peer })
    await waitFor('the asker finds the config', async () => (await pull(asker.registry)) === 200)
    const free = await occupy(holder.peer)
    const refused = await exchange(portOf(holder.peer), requestText('GET', SMALL, shown(SMALL, holder.peer)))
    assert.deepEqual([refused.status, refused.headers['retry-after']], [503, '1'])

    // The place is free a moment later, so a miss would be wrong.
    const pulled = pull(asker.registry)
    await waitFor('the asker is refused', async () => (await refusals(asker.admin)) > 0)
    free()
    assert.equal(await within('the config', pulled, BOUND), 200)

    // The door stays full. The request ends, and nothing counts against the door afterwards.
    const freeAgain = await occupy(holder.peer)
    assert.equal(await within('a miss', pull(asker.registry), BOUND), 404)
    freeAgain()
    assert.equal(await within('the config', pull(asker.registry), BOUND), 200)

    // The door stays full, but another node has the content.
    const freeAtLast = await occupy(holder.peer)
    await start(image, { ...KEY_FLAG, bootstrap: holder.peer })
    await waitFor('the asker finds the other holder', async () => (await pull(asker.registry)) === 200)
    for (let round = 0; round < 5; round++) assert.equal(await pull(asker.registry), 200)
    freeAtLast()
  })
})

test('mirror gets all of fifty blobs that it asks its only peer for at the same time, as the first thing it does', async () => {
  const many = makeImage({ layers: 50, layerSize: 100_000 })
  const layers = many.contents.filter(({ bytes }) => bytes.length >= 100_000)
  assert.equal(layers.length, 50)
  await withMirrors(async ({ start }) => {
    const holder = await start(many, KEY_FLAG)
    const asker = await start(undefined, { ...KEY_FLAG, bootstrap: holder.peer, 'lookup-timeout': '10s' })
    const pulls = layers.map(async ({ descriptor }) => {
      const path = `/v2/team/app/blobs/${descriptor.digest}?ns=registry.example`
      const response = await fetch(`http://${asker.registry}${path}`)
      const body = new Uint8Array(await response.arrayBuffer())
      return response.status === 200 ? digestOf(body) : response.status
    })
    assert.deepEqual(
      await within('all of them', Promise.all(pulls), 2 * BOUND),
      layers.map(({ descriptor }) => descriptor.digest),
    )
  })
})
