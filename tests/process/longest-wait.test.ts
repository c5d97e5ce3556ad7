/** All peers send heads but no bodies. The client must not wait for one after another. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { formatContentRange, parseRange } from '../../lib/oci/range.ts'
import {
  BLOB,
  bodyOf,
  HEAD,
  layer,
  MANIFEST,
  manifest,
  read,
  startGoodPeer,
  startMember,
  withPeers,
} from '../doubles/http-peers.ts'
import { never } from '../fixtures/layout.ts'

/** So many peers would take far longer than a client waits. */
const PEERS = 10
/** One at a time, so that each costs a stall. A client waits for three stalls, and for none that begins after them. */
const OPTIONS = { parallelPeers: 1, stallTimeout: 100, longestWait: 300 }
const MOST_ASKED = 4

/** Members whose bodies stand still after `given` bytes of the content. */
function holders(given: number) {
  const all = {
    asked: 0,
    start: () =>
      startMember((incoming, outgoing) => {
        all.asked++
        const { descriptor, bytes } = incoming.url?.includes('/manifests/') ? manifest : layer
        const requested = parseRange(incoming.headers.range ?? null, bytes.length)
        const range = requested.kind === 'part' ? requested.range : { start: 0, end: bytes.length - 1 }
        outgoing.writeHead(requested.kind === 'part' ? 206 : 200, {
          'content-type': descriptor.mediaType,
          'content-length': range.end + 1 - range.start,
          'docker-content-digest': descriptor.digest,
          ...(requested.kind === 'part' ? { 'content-range': formatContentRange(range, bytes.length) } : {}),
        })
        outgoing.flushHeaders()
        if (range.start < given) outgoing.write(bytes.subarray(range.start, given))
      }),
  }
  return all
}

for (const [what, target] of [
  ['a manifest', MANIFEST],
  ['a blob', BLOB],
] as const) {
  test(`fetch gives up ${what} when nobody sends a byte and its client has waited long enough`, async () => {
    const all = holders(0)
    await withPeers(
      Array(PEERS).fill(all.start),
      async ({ peers }) => {
        assert.equal(await peers.fetch({ target, method: 'GET' }, never), undefined)
        assert.ok(all.asked <= MOST_ASKED, `${all.asked} were asked`)
      },
      OPTIONS,
    )
  })
}

test('fetch ends a body when nobody sends the rest and its client has waited long enough', async () => {
  const all = holders(100_000)
  await withPeers(
    Array(PEERS).fill(all.start),
    async ({ peers }) => {
      const received: Uint8Array[] = []
      const body = bodyOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))
      await assert.rejects(read(body, received), /no peer left for the bytes from 100000 on/)
      assert.deepEqual(Buffer.concat(received), Buffer.from(layer.bytes.subarray(0, 100_000)))
      assert.ok(all.asked <= MOST_ASKED, `${all.asked} were asked`)
    },
    OPTIONS,
  )
})

test('fetch does not count the time in which its client does not read', async () => {
  let breakOff = (): void => assert.fail('nobody is asked')
  const startBreaking = () =>
    startMember((incoming, outgoing) => {
      outgoing.writeHead(200, HEAD).write(layer.bytes.subarray(0, 100_000))
      breakOff = () => void incoming.socket.destroy()
    })
  await withPeers(
    [startBreaking, startGoodPeer],
    async ({ peers }) => {
      const body = bodyOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))
      const first = Uint8Array.from((await body.next()) ?? assert.fail('no byte'))
      breakOff()
      await delay(2 * OPTIONS.longestWait)
      assert.deepEqual(Buffer.concat([first, await read(body)]), Buffer.from(layer.bytes))
    },
    OPTIONS,
  )
})
