import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Followers } from '../../../lib/http/from-arrival.ts'
import { createHttpMetrics } from '../../../lib/http/metrics.ts'
import { createPeerDoor } from '../../../lib/http/peer.ts'
import { silentLogger } from '../../../lib/observe/log.ts'
import { createMetrics } from '../../../lib/observe/metrics.ts'
import { createPolicy } from '../../../lib/oci/policy.ts'
import { FOLLOWER_HEADER } from '../../../lib/peers/credentials.ts'
import { Arrivals } from '../../../lib/store/arrivals.ts'
import { freeAdmission } from '../../doubles/admission.ts'
import { sourceOf } from '../../doubles/byte-source.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import { createMemoryStore } from '../../doubles/memory-store.ts'
import { CREDENTIALS, DOOR, ticketFor } from '../../fixtures/credentials.ts'
import { makeImage } from '../../fixtures/image.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

const image = makeImage({ layers: 1, layerSize: 3_000 })
const layer = image.contents.at(-1) ?? assert.fail('no layer')
const manifest = image.contents[0] ?? assert.fail('no manifest')
const BYTES = Buffer.from(layer.bytes)

const pathOf = ({ descriptor }: typeof layer) => `/v2/team/app/blobs/${descriptor.digest}?ns=registry.example`
const PATH = pathOf(layer)

/** A peer door of a node that is getting the layer, and has half of it. */
function make(exclude: readonly RegExp[] = [], room = 1) {
  const store = createMemoryStore()
  const writer = store.arrive(layer)
  writer.write(1_500)
  const clock = new ManualClock()
  const arrivals = new Arrivals(store)
  const followers = new Followers(arrivals, () => room, clock)
  const door = createPeerDoor({
    ...{ store, followers, capabilities: CREDENTIALS, address: DOOR, maxTransfers: 64, log: silentLogger },
    policy: createPolicy({ exclude }),
    metrics: createHttpMetrics(createMetrics()),
  })
  const ask = async (
    follower: string | undefined,
    headers: Record<string, string> = {},
    path = PATH,
    method = 'GET',
  ) => {
    const own = follower === undefined ? {} : { [FOLLOWER_HEADER]: follower }
    const all = { ...ticketFor(path, method)?.headers, ...own, ...headers }
    return await door.fetch(new Request(`http://door.example${path}`, { method, headers: all }), freeAdmission())
  }
  return { store, writer, arrivals, followers, clock, ask }
}

/** How many nodes follow this one now. */
const sizeOf = ({ all }: Followers) => Object.values(all).flatMap((names) => names.split(', ')).length

/** The next `count` bytes of a body. */
async function take(reader: ReadableStreamDefaultReader<Uint8Array>, length: number): Promise<Buffer> {
  const chunks: Uint8Array[] = []
  while (Buffer.concat(chunks).length < length) {
    const { done, value } = await within('the next bytes', reader.read())
    if (done) break
    chunks.push(value)
  }
  return Buffer.concat(chunks)
}

function readerOf(response: Response): ReadableStreamDefaultReader<Uint8Array> {
  assert.ok(response.status === 200 || response.status === 206, `status ${response.status}`)
  return response.body?.getReader() ?? assert.fail('no body')
}

test('peer door sends a follower the bytes of a blob that are there, and the rest as it comes', async () => {
  const { writer, ask, followers } = make()
  const response = await ask('10.0.0.2:5001')
  assert.deepEqual([response.status, response.headers.get('content-length')], [200, String(BYTES.length)])
  const reader = readerOf(response)
  assert.deepEqual(await take(reader, 1_500), BYTES.subarray(0, 1_500))
  assert.deepEqual(Object.values(followers.all), ['10.0.0.2:5001'])
  const next = take(reader, 500)
  writer.write(2_000)
  assert.deepEqual(await next, BYTES.subarray(1_500, 2_000))
  writer.commit()
  assert.deepEqual(await take(reader, BYTES.length), BYTES.subarray(2_000))
  await reader.cancel()
  assert.equal(sizeOf(followers), 0)
})

test('peer door sends a follower the range that it asks for, as soon as its first byte is there', async () => {
  const { writer, ask } = make()
  const response = await ask('10.0.0.2:5001', { range: 'bytes=1000-2499' })
  assert.deepEqual([response.status, response.headers.get('content-range')], [206, `bytes 1000-2499/${BYTES.length}`])
  const reader = readerOf(response)
  assert.deepEqual(await take(reader, 500), BYTES.subarray(1_000, 1_500))
  writer.write(3_000)
  assert.deepEqual(await take(reader, 1_001), BYTES.subarray(1_500, 2_500))
})

test('peer door lets a follower wait a moment for the first byte of its range, and then answers 404', async () => {
  const { writer, ask, followers, clock } = make()
  const late = ask('10.0.0.2:5001', { range: 'bytes=1500-' })
  await clock.pass(300)
  assert.equal((await within('an answer', late)).status, 404)
  assert.equal(sizeOf(followers), 0)
  const asked = ask('10.0.0.2:5001', { range: 'bytes=1500-' })
  writer.write(1_600)
  const reader = readerOf(await asked)
  assert.deepEqual(await take(reader, 100), BYTES.subarray(1_500, 1_600))
  await reader.cancel()
})

test('peer door gives its place to a follower that can have bytes now, and not to one that waits for a later byte', async () => {
  const { writer, ask } = make()
  const waiting = ask('10.0.0.2:5001', { range: 'bytes=1500-' })
  const reader = readerOf(await within('an answer', ask('10.0.0.3:5001')))
  writer.write(1_600)
  assert.equal((await within('the other answer', waiting)).status, 404)
  await reader.cancel()
})

test('peer door ends the body of a follower when the arriving blob is aborted', async () => {
  const { writer, ask, followers } = make()
  const reader = readerOf(await ask('10.0.0.2:5001'))
  await take(reader, 1_500)
  const rest = reader.read()
  writer.abort()
  await assert.rejects(within('the end', rest), /given up/)
  assert.equal((await ask('10.0.0.2:5001')).status, 404)
  await reader.cancel().catch(() => undefined)
  // Like a server with a body that fails.
  assert.ok(sizeOf(followers) <= 1)
})

test('peer door answers a follower with 404 if the arriving blob is aborted before its first byte', async () => {
  const { store, ask, followers } = make()
  const other = makeImage({ layers: 1, seed: 2 }).contents.at(-1) ?? assert.fail('no layer')
  const writer = store.arrive(other)
  const asked = ask('10.0.0.2:5001', {}, pathOf(other))
  await waitFor('the follower to wait', () => sizeOf(followers) === 1)
  writer.abort()
  assert.equal((await within('the answer', asked)).status, 404)
  assert.equal(sizeOf(followers), 0)
})

test('peer door has one follower for each blob, which may come again', async () => {
  const { ask, followers } = make()
  const first = readerOf(await ask('10.0.0.2:5001'))
  assert.equal((await ask('10.0.0.3:5001')).status, 404)
  assert.equal(sizeOf(followers), 1)
  const again = readerOf(await ask('10.0.0.2:5001'))
  // The follower has the place of its last request.
  await first.cancel()
  assert.equal((await ask('10.0.0.3:5001')).status, 404)
  await again.cancel()
  const next = readerOf(await ask('10.0.0.3:5001'))
  await next.cancel()
})

test('peer door has as many followers for a blob as its node has room for', async () => {
  const { ask, followers } = make([], 2)
  const [first, second] = [readerOf(await ask('10.0.0.2:5001')), readerOf(await ask('10.0.0.3:5001'))]
  assert.deepEqual(Object.values(followers.all), ['10.0.0.2:5001, 10.0.0.3:5001'])
  assert.equal((await ask('10.0.0.4:5001')).status, 404)
  await first.cancel()
  const third = readerOf(await ask('10.0.0.4:5001'))
  assert.deepEqual(await take(second, 1_500), BYTES.subarray(0, 1_500))
  await second.cancel()
  await third.cancel()
  assert.equal(sizeOf(followers), 0)
})

test('peer door gives away the place of a follower that does not read', async () => {
  const { ask, clock } = make()
  const first = readerOf(await ask('10.0.0.2:5001'))
  await take(first, 1_500)
  const waiting = first.read().catch(() => undefined)
  await clock.pass(60_000)
  assert.equal((await ask('10.0.0.3:5001')).status, 404, 'it waits for more')
  await first.cancel()
  await waiting
  const stuck = readerOf(await ask('10.0.0.3:5001'))
  await take(stuck, 1)
  await clock.pass(10_000)
  const next = readerOf(await ask('10.0.0.4:5001'))
  await next.cancel()
  await stuck.cancel()
})

test('peer door sends passing bytes before they are written, however many followers have left in the middle of a blob', async () => {
  const { store, arrivals, ask } = make()
  const others = makeImage({ layers: 20, layerSize: 3_000, seed: 2 }).contents.slice(2)
  for (const other of others) {
    store.arrive(other).write(1_500)
    const reader = readerOf(await ask('10.0.0.2:5001', {}, pathOf(other)))
    await take(reader, 1)
    await reader.cancel()
  }
  const reader = readerOf(await ask('10.0.0.2:5001'))
  await take(reader, 1_500)
  const passing = arrivals.passing(layer.descriptor.digest, 1_500, 500, sourceOf([BYTES.subarray(1_500, 2_000)]))
  const next = take(reader, 500)
  await passing.next()
  assert.deepEqual(await next, BYTES.subarray(1_500, 2_000))
  await reader.cancel()
})

test('peer door sends passing bytes before they are written to a follower that came before the first of them', async () => {
  const { store, arrivals, ask, followers } = make()
  const other = makeImage({ layers: 1, layerSize: 3_000, seed: 2 }).contents.at(-1) ?? assert.fail('no layer')
  store.arrive(other)
  const asked = ask('10.0.0.2:5001', {}, pathOf(other))
  await waitFor('the follower to wait', () => sizeOf(followers) === 1)
  const bytes = Buffer.from(other.bytes.subarray(0, 500))
  await arrivals.passing(other.descriptor.digest, 0, other.bytes.length, sourceOf([bytes])).next()
  const reader = readerOf(await within('the head', asked))
  assert.deepEqual(await take(reader, 500), bytes)
  await reader.cancel()
})

test('peer door sends arriving blobs only to followers', async () => {
  const { ask, store } = make()
  store.arrive(manifest)
  const byDigest = `/v2/team/app/manifests/${manifest.descriptor.digest}?ns=registry.example`
  for (const [what, asked] of [
    ['who does not follow', ask(undefined)],
    ['who asks for the head', ask('10.0.0.2:5001', {}, PATH, 'HEAD')],
    ['who asks for a manifest', ask('10.0.0.2:5001', {}, byDigest)],
    ['who asks for a part that is none', ask('10.0.0.2:5001', { range: `bytes=${BYTES.length}-` })],
    ['who asks for an excluded image', make([/^registry\.example/]).ask('10.0.0.2:5001')],
  ] as const) {
    assert.equal((await asked).status, 404, what)
  }
  const stranger = await ask('10.0.0.2:5001', { 'x-swarmirror-capability': 'none' })
  assert.equal(stranger.status, 403)
})
