/** Strangers without the swarm key that announce content: nothing that they say delays a request. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { startHttpPeer } from '../../doubles/http-peer.ts'
import { BLOB, contentOf, counted, layer, startGoodPeer, withPeers } from '../../doubles/http-peers.ts'
import { never } from '../../fixtures/layout.ts'

/** Like a proxy in front of a node that is gone. */
function startBusyStranger() {
  const stranger = {
    asked: 0,
    start: () =>
      startHttpPeer((_, outgoing) => {
        stranger.asked++
        outgoing.writeHead(503, { 'content-length': '0', 'retry-after': '1' }).end()
      }),
  }
  return stranger
}

test('fetch is not kept waiting by a stranger that says to be busy, and does not ask it again', async () => {
  const stranger = startBusyStranger()
  await withPeers([stranger.start], async ({ peers, known, lines }, [busy]) => {
    for (const range of [undefined, 'bytes=1-', 'bytes=2-'])
      assert.equal(await peers.fetch({ target: BLOB, method: 'GET', range }, never), undefined)
    assert.equal(stranger.asked, 1)
    const peer = busy?.peer ?? assert.fail()
    assert.deepEqual([known.isAside(peer), known.of(peer).mayAnswer], [true, false])
    const problems = lines.filter(({ level }) => level === 'warn').map(({ fields }) => String(fields.error))
    assert.match(problems.join('\n'), /^PeerError: status 503 without the proof of the swarm key$/)
  })
})

test('fetch gives what a member has at once although a stranger says to be busy', async () => {
  const stranger = startBusyStranger()
  await withPeers([stranger.start, startGoodPeer], async ({ peers, metrics }) => {
    assert.deepEqual(
      await contentOf(await peers.fetch({ target: BLOB, method: 'GET' }, never)),
      Buffer.from(layer.bytes),
    )
    assert.equal(await counted(metrics, 'peer_requests_total', 'busy'), 0)
  })
})
