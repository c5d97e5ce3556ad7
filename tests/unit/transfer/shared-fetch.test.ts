import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CountingPeer } from '../../doubles/http-peer.ts'
import {
  BLOB,
  bodyOf,
  contentOf,
  counted,
  HEAD,
  layer,
  read,
  startGoodPeer,
  startMember,
  withPeers,
} from '../../doubles/http-peers.ts'
import { never } from '../../fixtures/layout.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

const CONTENT = Buffer.from(layer.bytes)

for (const range of [undefined, 'bytes=0-']) {
  test(`fetch makes one transfer of requests at the same time (Range ${range ?? 'missing'})`, async () => {
    await withPeers([startGoodPeer], async ({ peers, metrics, lines }) => {
      const answers = await Promise.all([1, 2, 3].map(() => peers.fetch({ target: BLOB, method: 'GET', range }, never)))
      for (const answer of answers) {
        assert.ok(answer?.kind === 'content')
        assert.equal(answer.range, undefined)
      }
      for (const bytes of await Promise.all(answers.map(contentOf))) assert.deepEqual(bytes, CONTENT)
      assert.equal(await counted(metrics, 'peer_requests_total'), 1)
      assert.equal(await counted(metrics, 'transfer_bytes_total'), CONTENT.length)
      assert.equal(await counted(metrics, 'transfer_shares_total', 'joined'), 2)
      assert.equal(lines.filter(({ event }) => event === 'transfer').length, 1)
    })
  })
}

test('fetch takes parts from a flow that is under way where it is, and where it will be soon', async () => {
  await withPeers([startGoodPeer], async ({ peers, metrics }) => {
    const whole = bodyOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))
    const first = Uint8Array.from((await whole.next()) ?? assert.fail('no byte'))
    const near = await peers.fetch({ target: BLOB, method: 'GET', range: 'bytes=5-9' }, never)
    assert.deepEqual(await contentOf(near), CONTENT.subarray(5, 10))
    assert.equal(await counted(metrics, 'peer_requests_total'), 1)
    const ahead = await peers.fetch({ target: BLOB, method: 'GET', range: 'bytes=240000-' }, never)
    assert.deepEqual(await contentOf(ahead), CONTENT.subarray(240_000))
    assert.equal(await counted(metrics, 'peer_requests_total'), 1)
    const beyond = await peers.fetch({ target: BLOB, method: 'GET', range: 'bytes=999999-' }, never)
    assert.deepEqual(beyond, { kind: 'unsatisfiable', size: CONTENT.length })
    assert.deepEqual(Buffer.concat([first, await read(whole)]), CONTENT)
  })
})

test('fetch lets a request leave a transfer that others still read or wait for', async () => {
  await withPeers([startGoodPeer], async ({ peers, metrics }) => {
    const stop = new AbortController()
    const left = peers.fetch({ target: BLOB, method: 'GET' }, stop.signal)
    const stays = peers.fetch({ target: BLOB, method: 'GET' }, never)
    const cancels = bodyOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))
    stop.abort(new Error('the client left'))
    await cancels.cancel()
    await left.then(
      async (answer) => await bodyOf(answer).cancel(),
      () => undefined,
    )
    assert.deepEqual(await contentOf(await stays), CONTENT)
    assert.equal(await counted(metrics, 'peer_requests_total'), 1)
  })
})

test('fetch ends a transfer that everybody has left, and begins a new one for who comes later', async () => {
  const startHanging = () =>
    startMember((_, outgoing) => {
      outgoing.writeHead(200, HEAD)
      outgoing.write(layer.bytes.subarray(0, 1_000))
    })
  await withPeers([startHanging, startGoodPeer], async ({ peers, metrics }, [hanging]) => {
    const bodies = await Promise.all(
      [1, 2].map(async () => bodyOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))),
    )
    for (const body of bodies) await body.next()
    for (const body of bodies) await body.cancel()
    await waitFor('the connection is closed', () => (hanging as CountingPeer).open === 0)
    assert.equal(await counted(metrics, 'transfers_running'), 0)
    const answer = await peers.fetch({ target: BLOB, method: 'GET' }, never)
    assert.deepEqual(await within('the body', contentOf(answer)), CONTENT)
  })
})

test('fetch lets a reader that is too slow for the others go on by itself', async () => {
  await withPeers(
    [startGoodPeer],
    async ({ peers, metrics }) => {
      const [fast, slow] = await Promise.all(
        [1, 2].map(async () => bodyOf(await peers.fetch({ target: BLOB, method: 'GET' }, never))),
      )
      assert.deepEqual(await read(fast ?? null), CONTENT)
      assert.deepEqual(await within('the body', read(slow ?? null)), CONTENT)
      assert.equal(await counted(metrics, 'transfer_shares_total', 'left'), 1)
      assert.equal(await counted(metrics, 'transfers_running'), 0)
    },
    { window: 1 },
  )
})

test('fetch gives all of the requests at the same time nothing when nobody has it', async () => {
  await withPeers([], async ({ peers, metrics }) => {
    const answers = await Promise.all([1, 2].map(() => peers.fetch({ target: BLOB, method: 'GET' }, never)))
    assert.deepEqual(answers, [undefined, undefined])
    assert.equal(await counted(metrics, 'lookups_total'), 1)
  })
})
