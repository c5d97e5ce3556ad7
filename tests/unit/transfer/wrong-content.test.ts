import assert from 'node:assert/strict'
import type { RequestListener } from 'node:http'
import { test } from 'node:test'
import { digestKey } from '../../../lib/oci/key.ts'
import { formatContentRange, parseRange } from '../../../lib/oci/range.ts'
import type { CountingPeer } from '../../doubles/http-peer.ts'
import {
  BLOB,
  bodyOf,
  contentOf,
  counted,
  HEAD,
  image,
  layer,
  MANIFEST,
  manifest,
  read,
  startGoodPeer,
  startMember,
  withPeers,
} from '../../doubles/http-peers.ts'
import { never } from '../../fixtures/layout.ts'
import { within } from '../../fixtures/wait.ts'

const config =
  image.contents.find(
    ({ descriptor }) =>
      descriptor.digest !== layer.descriptor.digest && descriptor.digest !== manifest.descriptor.digest,
  ) ?? assert.fail('no config')

/** A member whose disk has flipped the byte at that offset in all its content. */
function corrupt(place: number, breakAfter = Number.POSITIVE_INFINITY): () => Promise<CountingPeer> {
  const answer: RequestListener = (incoming, outgoing) => {
    const content =
      [layer, manifest, config].find(({ descriptor }) => incoming.url?.includes(descriptor.digest)) ?? manifest
    const bytes = Uint8Array.from(content.bytes)
    const at = place % bytes.length
    bytes[at] = ~(bytes[at] ?? 0)
    const requested = parseRange(incoming.headers.range ?? null, bytes.length)
    const range = requested.kind === 'part' ? requested.range : { start: 0, end: bytes.length - 1 }
    const part = bytes.subarray(range.start, range.end + 1)
    outgoing.writeHead(requested.kind === 'part' ? 206 : 200, {
      'content-type': content.descriptor.mediaType,
      'content-length': part.length,
      'docker-content-digest': content.descriptor.digest,
      ...(requested.kind === 'part' ? { 'content-range': formatContentRange(range, bytes.length) } : {}),
    })
    outgoing.write(part.subarray(0, breakAfter), () => {
      if (breakAfter < part.length) incoming.socket.destroy()
      else outgoing.end()
    })
  }
  return () => startMember(answer)
}

for (const place of [0, 150_000, layer.bytes.length - 1]) {
  test(`fetch never completes a blob of which byte ${place} is wrong, and holds it against the peer for that digest`, async () => {
    await withPeers([corrupt(place), startGoodPeer], async ({ peers, known, metrics, lines }, [bad]) => {
      const received: Uint8Array[] = []
      const body = bodyOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))
      await assert.rejects(within('the end of the body', read(body, received)), /the bytes do not match sha256:/)
      assert.ok(Buffer.concat(received).length < layer.bytes.length)
      const peer = bad?.peer ?? assert.fail()
      assert.deepEqual([known.isWrong(peer, digestKey(BLOB.digest)), known.isAside(peer)], [true, false])
      assert.equal(await counted(metrics, 'verification_failures_total', 'kind="blob"'), 1)
      assert.equal(await counted(metrics, 'transfers_total', 'outcome="corrupt"'), 1)
      assert.ok(lines.some(({ level, event }) => level === 'warn' && event === 'wrong content'))
      // The next request goes to the other one.
      const again = await contentOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))
      assert.deepEqual(again, Buffer.from(layer.bytes))
    })
  })
}

for (const [what, target, content] of [
  ['a manifest', MANIFEST, manifest],
  ['a small blob', { ...BLOB, digest: config.descriptor.digest }, config],
] as const) {
  test(`fetch gives no byte of ${what} that is wrong, and asks the next peer`, async () => {
    await withPeers([corrupt(3), startGoodPeer], async ({ peers, known, metrics }, [bad]) => {
      const answer = await within('an answer', peers.fetch({ target, method: 'GET' }, never))
      assert.deepEqual(await contentOf(answer), Buffer.from(content.bytes))
      assert.ok(known.isWrong(bad?.peer ?? assert.fail(), digestKey(content.descriptor.digest)))
      assert.equal(await counted(metrics, 'verification_failures_total'), 1)
      assert.equal(await counted(metrics, 'transfers_total', 'outcome="complete"'), 1)
    })
  })

  test(`fetch gives nothing when all that peers have of ${what} is wrong`, async () => {
    await withPeers([corrupt(3), corrupt(4)], async ({ peers }) => {
      assert.equal(await within('a miss', peers.fetch({ target, method: 'GET' }, never)), undefined)
    })
  })
}

test('fetch finds out which one of those that gave parts of wrong content has it wrong, before the body ends', async () => {
  await withPeers([corrupt(0, 100_000), startGoodPeer], async ({ peers, known, lines }, both) => {
    const body = bodyOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))
    await assert.rejects(within('the end of the body', read(body)), /the bytes do not match/)
    const [bad, good] = [both[0]?.peer ?? assert.fail(), both[1]?.peer ?? assert.fail()]
    const told = lines
      .filter(({ event }) => event === 'peer examined')
      .map(({ fields }) => [fields.peer, fields.isRight])
    // The body breaks off, so it is not known whether it is wrong.
    assert.deepEqual(told, [[good, true]])
    assert.deepEqual(
      [bad, good].map((peer) => known.isWrong(peer, digestKey(BLOB.digest))),
      [true, false],
    )
    const again = await contentOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))
    assert.deepEqual(again, Buffer.from(layer.bytes))
  })
})

test('fetch suspects everybody who gave a part of wrong content while nobody can say who has it wrong', async () => {
  await withPeers([corrupt(0, 100_000), corrupt(0, 200_000)], async ({ peers, known }, both) => {
    const body = bodyOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))
    await assert.rejects(within('the end of the body', read(body)))
    assert.deepEqual(
      both.map(({ peer }) => known.isWrong(peer, digestKey(BLOB.digest))),
      [true, true],
    )
  })
})

test('fetch suspects who gave the beginning of wrong content, too, when a reader has gone on without the others', async () => {
  let asked = 0
  const more = Promise.withResolvers<void>()
  const startBad = () =>
    startMember((_, outgoing) => {
      if (asked++ > 0) {
        outgoing.writeHead(404, { 'content-length': 0 }).end()
        return
      }
      const bytes = Uint8Array.from(layer.bytes)
      bytes[0] = ~(bytes[0] ?? 0)
      outgoing.writeHead(200, HEAD).write(bytes.subarray(0, 10_000))
      void more.promise.then(() => outgoing.write(bytes.subarray(10_000, 200_000)))
    })
  await withPeers(
    [startBad, startGoodPeer],
    async ({ peers, known, metrics }, both) => {
      known.of(both[0]?.peer ?? assert.fail()).answered(1)
      const [fast, slow] = await Promise.all(
        [1, 2].map(async () => bodyOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))),
      )
      assert.ok(fast !== undefined && slow !== undefined)
      await slow.next()
      more.resolve()
      for (let taken = 0; taken < 200_000; ) taken += (await fast.next())?.length ?? assert.fail()
      await assert.rejects(within('the end of the body', read(slow)), /the bytes do not match/)
      await fast.cancel()
      assert.equal(await counted(metrics, 'transfer_shares_total', 'left'), 1)
      assert.deepEqual(
        both.map(({ peer }) => known.isWrong(peer, digestKey(BLOB.digest))),
        // The other peer has the right content, which was found out when the body ended.
        [true, false],
      )
    },
    { window: 1, parallelPeers: 1, stallTimeout: 5_000 },
  )
})

test('fetch checks manifests and no blobs with verification off', async () => {
  await withPeers(
    [corrupt(0)],
    async ({ peers, metrics }) => {
      const answer = await peers.fetch({ target: BLOB, method: 'GET' }, never)
      assert.equal((await contentOf(answer)).length, layer.bytes.length)
      assert.equal(await counted(metrics, 'verification_failures_total'), 0)
      assert.equal(await peers.fetch({ target: MANIFEST, method: 'GET' }, never), undefined)
      assert.equal(await counted(metrics, 'verification_failures_total', 'kind="manifest"'), 1)
    },
    { verify: false },
  )
})

test('fetch refuses a manifest that is larger than manifests are', async () => {
  const startLarge = () =>
    startMember((_, outgoing) => {
      outgoing.writeHead(200, {
        'content-type': manifest.descriptor.mediaType,
        'content-length': 4 * 1024 * 1024 + 1,
        'docker-content-digest': manifest.descriptor.digest,
      })
      outgoing.write('{')
    })
  await withPeers([startLarge, startGoodPeer], async ({ peers }) => {
    const target = { ...BLOB, kind: 'manifest', digest: manifest.descriptor.digest } as const
    const answer = await within('an answer', peers.fetch({ target, method: 'GET' }, never))
    assert.deepEqual(await contentOf(answer), Buffer.from(manifest.bytes))
  })
})
