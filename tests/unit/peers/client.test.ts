import assert from 'node:assert/strict'
import type { ServerResponse } from 'node:http'
import { test } from 'node:test'
import { PeerClient, type PeerClientOptions } from '../../../lib/peers/client.ts'
import { PeerError } from '../../../lib/peers/error.ts'
import type { PeerReply } from '../../../lib/peers/http1/connection.ts'
import { type CountingPeer, startHttpPeer, startRawPeer } from '../../doubles/http-peer.ts'
import { read } from '../../doubles/http-peers.ts'
import { never } from '../../fixtures/layout.ts'
import { inTime, waitFor, within } from '../../fixtures/wait.ts'

const CALL = { method: 'GET', path: '/v2/?ns=x', headers: {} } as const

type Use = (client: PeerClient, peer: CountingPeer) => Promise<void>

/** Runs `use` with a client and a peer that answers with `answer`. */
async function withPeer(answer: (outgoing: ServerResponse, method: string) => void, use: Use): Promise<void> {
  const start = startHttpPeer((incoming, outgoing) => answer(outgoing, incoming.method ?? ''))
  await withClient({ headTimeout: 500 }, start, use)
}

/** Runs `use` with a client and a peer that is being started, and ends both. */
async function withClient(options: PeerClientOptions, start: Promise<CountingPeer>, use: Use): Promise<void> {
  const peer = await start
  const client = new PeerClient(options)
  try {
    await use(client, peer)
  } finally {
    client.close()
    await peer.close()
  }
}

async function textOf({ body }: PeerReply): Promise<string> {
  return String(await read(body))
}

test('PeerClient call sends method, path and headers, and gives status, headers and body', async () => {
  const start = startHttpPeer(({ method, url, headers }, outgoing) => {
    const text = `${method} ${url} ${headers.range} ${headers['accept-encoding']}`
    outgoing.writeHead(203, { 'x-multiple': ['a', 'b'], 'content-length': text.length })
    outgoing.end(text)
  })
  await withClient({}, start, async (client, peer) => {
    const reply = await client.call(
      peer.peer,
      { method: 'GET', path: '/v2/a?ns=b', headers: { range: 'bytes=1-' } },
      never,
    )
    assert.equal(reply.status, 203)
    assert.equal(reply.headers.get('x-multiple'), 'a, b')
    // The request allows no encoding, because a digest is that of the plain bytes.
    assert.equal(await textOf(reply), 'GET /v2/a?ns=b bytes=1- undefined')
  })
})

test('PeerClient uses a connection again after bodies that were read, cancelled while short, or not there', async () => {
  const answer = (outgoing: ServerResponse, method: string) => {
    outgoing.setHeader('content-length', '5')
    outgoing.end(method === 'HEAD' ? undefined : 'hello')
  }
  await withPeer(answer, async (client, peer) => {
    for (let round = 0; round < 3; round++) {
      assert.equal(await textOf(await client.call(peer.peer, CALL, never)), 'hello')
      await (await client.call(peer.peer, CALL, never)).body.cancel()
      await (await client.call(peer.peer, { ...CALL, method: 'HEAD' }, never)).body.cancel()
    }
    // Nine calls, and a second connection for calls that came while the first one was still being read.
    assert.ok(peer.accepted <= 2, `${peer.accepted} connections`)
  })
})

test('PeerClient ends the connection of a long body that is cancelled', async () => {
  const answer = (outgoing: ServerResponse) => {
    outgoing.setHeader('content-length', '100000000')
    outgoing.write('x')
  }
  await withPeer(answer, async (client, peer) => {
    const reply = await client.call(peer.peer, CALL, never)
    await reply.body.cancel()
    await waitFor('the connection is closed', () => peer.open === 0)
  })
})

test('PeerClient ends the connection of a short body that is cancelled and does not come', async () => {
  const answer = (outgoing: ServerResponse) => {
    outgoing.setHeader('content-length', '10')
    outgoing.write('x')
  }
  await withPeer(answer, async (client, peer) => {
    const reply = await client.call(peer.peer, CALL, never)
    await reply.body.cancel()
    await waitFor('the connection is closed', () => peer.open === 0)
  })
})

test('PeerClient gives a body as slowly as it comes, and waits for a slow reader', async () => {
  let sent = 0
  const answer = (outgoing: ServerResponse) => {
    outgoing.setHeader('content-length', '5')
    const timer = setInterval(() => {
      outgoing.write('x')
      if (++sent === 5) {
        clearInterval(timer)
        outgoing.end()
      }
    }, 100)
  }
  await withPeer(answer, async (client, peer) => {
    const { body } = await client.call(peer.peer, CALL, never)
    let received = 0
    for (let chunk = await body.next(); chunk !== undefined; chunk = await body.next()) {
      received += chunk.length
      // The rest comes while nobody reads.
      if (received === 1) await waitFor('all is sent', () => sent === 5)
    }
    assert.equal(received, 5)
  })
})

test('PeerClient does not read a body further than it is read from it', async () => {
  let written = 0
  const chunk = Buffer.alloc(256 * 1024)
  const answer = (outgoing: ServerResponse) => {
    outgoing.writeHead(200, { 'content-length': String(1024 ** 3) })
    const more = () => {
      while (!outgoing.destroyed) {
        written += chunk.length
        if (!outgoing.write(chunk)) break
      }
      if (!outgoing.destroyed) outgoing.once('drain', more)
    }
    more()
  }
  await withPeer(answer, async (client, peer) => {
    const { body } = await client.call(peer.peer, CALL, never)
    let last = -1
    await waitFor('the peer stands still', async () => {
      const before = last
      last = written
      await new Promise((resolve) => setTimeout(resolve, 200))
      return before === last && written === last
    })
    assert.ok(written < 64 * 1024 * 1024, `${written} bytes were taken for a body that nobody reads`)
    await body.cancel()
  })
})

test('PeerClient call fails with the peer in words, and within its time', async () => {
  const start = startRawPeer((socket) => socket.resume())
  await withClient({ headTimeout: 50 }, start, async (client, peer) => {
    const failed = within('the failure', client.call(peer.peer, CALL, never), 10_000)
    await assert.rejects(failed, (error) => {
      assert.ok(error instanceof PeerError)
      assert.equal(error.message, `127.0.0.1:${peer.peer.port}: no answer within 50 ms`)
      return true
    })
    await waitFor('the connection is closed', () => peer.open === 0)
  })
})

test('PeerClient call fails at once for a signal that is aborted already', async () => {
  await withPeer(
    (outgoing) => outgoing.end(),
    async (client, peer) => {
      await assert.rejects(client.call(peer.peer, CALL, AbortSignal.abort()), /cancelled/)
      await waitFor('no connection', () => peer.open === 0)
    },
  )
})

test('PeerClient close ends all connections, idle and in use', async () => {
  const answer = (outgoing: ServerResponse) => {
    outgoing.setHeader('content-length', '10')
    outgoing.write('x')
  }
  await withPeer(answer, async (client, peer) => {
    const { body } = await client.call(peer.peer, CALL, never)
    assert.equal(peer.open, 1)
    client.close()
    await assert.rejects(within('the end of the body', read(body), 10_000), inTime)
    await waitFor('the connections are closed', () => peer.open === 0)
  })
})
