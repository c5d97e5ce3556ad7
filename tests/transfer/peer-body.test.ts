import assert from 'node:assert/strict'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { test } from 'node:test'
import { type CountingPeer, startHttpPeer, startRawPeer } from '../fixtures/http-peer.ts'
import { BLOB, HEAD, layer, startGoodPeer, withPeers } from '../fixtures/http-peers.ts'
import { never } from '../fixtures/layout.ts'
import { waitFor, within } from '../fixtures/wait.ts'

/** Sends the first half of the layer and then does `next`. */
function halfThen(next: (incoming: IncomingMessage, outgoing: ServerResponse) => void): () => Promise<CountingPeer> {
  return () =>
    startHttpPeer((incoming, outgoing) => {
      outgoing.writeHead(200, HEAD)
      outgoing.write(layer.bytes.subarray(0, 100_000), () => next(incoming, outgoing))
    })
}

for (const [what, start, problem] of [
  ['breaks off', halfThen((incoming) => incoming.socket.destroy()), /.+/],
  ['resets the connection', halfThen((incoming) => incoming.socket.resetAndDestroy()), /.+/],
  ['goes silent', halfThen(() => undefined), /no byte within 300 ms/],
] satisfies [string, () => Promise<CountingPeer>, RegExp][]) {
  test(`fetch gives a body that ends with an error, in bounded time, when the peer ${what} in the middle`, async () => {
    await withPeers([start], async ({ peers }, [peer]) => {
      const answer = await peers.fetch({ target: BLOB, method: 'GET' }, never)
      assert.ok(answer?.kind === 'content' && answer.body !== null)
      let received = 0
      const reading = (async () => {
        for await (const chunk of answer.body ?? []) received += chunk.length
      })()
      await assert.rejects(within('the end of the body', reading, 5_000), (error) => {
        assert.match(String(error), problem)
        assert.doesNotMatch(String(error), /still not/)
        return true
      })
      assert.ok(received <= 100_000)
      await waitFor('the connection is closed', () => (peer as CountingPeer).open === 0)
    })
  })
}

test('fetch leaves no connection when it is aborted before the head', async () => {
  const starts = [() => startRawPeer((socket) => socket.resume()), startGoodPeer]
  await withPeers(starts, async ({ peers, lines }, [peer]) => {
    const stop = new AbortController()
    const fetched = peers.fetch({ target: BLOB, method: 'GET' }, stop.signal)
    await waitFor('the request is there', () => (peer as CountingPeer).open === 1)
    stop.abort()
    await assert.rejects(within('the end of the fetch', fetched, 2_000), /cancelled/)
    await waitFor('the connection is closed', () => (peer as CountingPeer).open === 0)
    assert.deepEqual(lines, [])
  })
})

for (const [what, begin] of [
  ['before its first byte is read', false],
  ['while it is being read', true],
] satisfies [string, boolean][]) {
  test(`fetch leaves no connection when it is aborted with a body ${what}`, async () => {
    await withPeers([halfThen(() => undefined)], async ({ peers }, [peer]) => {
      const stop = new AbortController()
      const answer = await peers.fetch({ target: BLOB, method: 'GET' }, stop.signal)
      assert.ok(answer?.kind === 'content' && answer.body !== null)
      const reader = answer.body.getReader()
      if (begin) assert.equal((await reader.read()).done, false)
      stop.abort()
      await assert.rejects(
        within(
          'the end of the body',
          (async () => {
            while (!(await reader.read()).done);
          })(),
          2_000,
        ),
      )
      await waitFor('the connection is closed', () => (peer as CountingPeer).open === 0)
    })
  })

  test(`fetch leaves no connection when a body is cancelled ${what}`, async () => {
    await withPeers([halfThen(() => undefined)], async ({ peers }, [peer]) => {
      const answer = await peers.fetch({ target: BLOB, method: 'GET' }, never)
      assert.ok(answer?.kind === 'content' && answer.body !== null)
      const reader = answer.body.getReader()
      if (begin) assert.equal((await reader.read()).done, false)
      await within('the end of the body', reader.cancel(), 2_000)
      await waitFor('the connection is closed', () => (peer as CountingPeer).open === 0)
    })
  })
}
