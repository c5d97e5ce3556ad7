import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import { test } from 'node:test'
import fc from 'fast-check'
import { PeerClient, type PeerClientOptions } from '../../../../lib/peers/client.ts'
import { PeerError } from '../../../../lib/peers/error.ts'
import { createTlsIdentity } from '../../../../lib/peers/tls.ts'
import { listen } from '../../../../lib/platform/listen.ts'
import { type CountingPeer, startRawPeer } from '../../../doubles/http-peer.ts'
import { read } from '../../../doubles/http-peers.ts'
import { SWARM_KEY } from '../../../fixtures/credentials.ts'
import { never } from '../../../fixtures/layout.ts'
import { waitFor, within } from '../../../fixtures/wait.ts'

const CALL = { method: 'GET', path: '/', headers: {} } as const
const HELLO = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello'

/** A peer that handles its nth request, on any connection, with the nth function. */
async function withRawPeer(
  onRequest: (socket: Socket, index: number) => void,
  use: (client: PeerClient, peer: CountingPeer) => Promise<void>,
  options: PeerClientOptions = {},
): Promise<void> {
  let requests = 0
  const peer = await startRawPeer((socket) => {
    socket.setNoDelay(true)
    socket.on('data', (data) => {
      for (const _ of String(data).matchAll(/\r\n\r\n/g)) onRequest(socket, requests++)
    })
  })
  const client = new PeerClient({ headTimeout: 2_000, ...options })
  try {
    await use(client, peer)
  } finally {
    client.close()
    await peer.close()
  }
}

async function get(client: PeerClient, { peer }: CountingPeer): Promise<string> {
  const { body } = await within('the answer', client.call(peer, CALL, never))
  return String(await within('the body', read(body)))
}

/** Writes the pieces one after another, each when the last one has left. */
function writeAll(socket: Socket, pieces: readonly (string | Uint8Array)[], then: () => void = () => undefined): void {
  const [piece, ...rest] = pieces
  if (piece === undefined) then()
  else socket.write(piece, () => setImmediate(() => writeAll(socket, rest, then)))
}

test('PeerClient reads an answer that comes in any pieces, and uses its connection again', async () => {
  const answer = 'HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world'
  let places: number[] = []
  const onRequest = (socket: Socket) => {
    const ends = [...places, answer.length]
    writeAll(
      socket,
      ends.map((end, index) => answer.slice(ends[index - 1] ?? 0, end)).filter((piece) => piece !== ''),
    )
  }
  await withRawPeer(onRequest, async (client, peer) => {
    const cuts = fc.array(fc.nat(70), { maxLength: 5 }).map((some) => some.sort((a, b) => a - b))
    await fc.assert(
      fc.asyncProperty(cuts, async (chosen) => {
        places = chosen.map((place) => Math.min(place, answer.length))
        assert.equal(await get(client, peer), 'hello world')
      }),
      { numRuns: 60 },
    )
    assert.equal(peer.accepted, 1)
  })
})

for (const [what, text] of [['declared in length', 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello']] as const) {
  test(`PeerClient fails for a body ${what} whose connection ends early`, async () => {
    await withRawPeer(
      (socket) => socket.end(text),
      async (client, peer) => {
        const { body } = await client.call(peer.peer, CALL, never)
        const received: Uint8Array[] = []
        await assert.rejects(within('the end', read(body, received)), PeerError)
        assert.equal(String(Buffer.concat(received)), 'hello')
        await assert.rejects(body.next(), PeerError)
        await waitFor('the connection is closed', () => peer.open === 0)
      },
    )
  })
}

test('PeerClient refuses a body of no declared length, which no door sends, and closes its connection', async () => {
  await withRawPeer(
    (socket) => socket.write('HTTP/1.1 200 OK\r\n\r\nhello'),
    async (client, peer) => {
      await assert.rejects(get(client, peer), (error) => error instanceof PeerError && error.failure === 'invalid')
      await waitFor('the connection is closed', () => peer.open === 0)
    },
  )
})

test('PeerClient asks once more when a kept connection ends before the answer', async () => {
  for (const ending of ['end', 'destroy', 'resetAndDestroy'] as const) {
    const onRequest = (socket: Socket, index: number) => {
      if (index === 1) socket[ending]()
      else socket.write(HELLO)
    }
    await withRawPeer(onRequest, async (client, peer) => {
      assert.equal(await get(client, peer), 'hello')
      assert.equal(await get(client, peer), 'hello', ending)
      assert.equal(peer.accepted, 2)
    })
  }
})

test('PeerClient does not ask once more when the connection is new, or a byte of the answer has come', async () => {
  await withRawPeer(
    (socket) => socket.end(),
    async (client, peer) => {
      await assert.rejects(get(client, peer), /closed before the answer/)
      assert.equal(peer.accepted, 1)
    },
  )
  const onRequest = (socket: Socket, index: number) => {
    if (index === 0) socket.write(HELLO)
    else socket.end('HTTP/1.1 2')
  }
  await withRawPeer(onRequest, async (client, peer) => {
    assert.equal(await get(client, peer), 'hello')
    await assert.rejects(get(client, peer), /closed before the answer/)
    assert.equal(peer.accepted, 1)
  })
})

test('PeerClient does not use a connection again on which more came than the answer', async () => {
  await withRawPeer(
    (socket) => socket.write(`${HELLO}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil`),
    async (client, peer) => {
      assert.equal(await get(client, peer), 'hello')
      assert.equal(await get(client, peer), 'hello')
      assert.equal(peer.accepted, 2)
    },
  )
})

test('PeerClient ends an idle connection when something comes that was not asked for, or its end', async () => {
  for (const act of [(socket: Socket) => socket.write('HTTP/1.1 408 Late\r\n\r\n'), (socket: Socket) => socket.end()]) {
    const sockets: Socket[] = []
    const onRequest = (socket: Socket) => {
      sockets.push(socket)
      socket.write(HELLO)
    }
    await withRawPeer(onRequest, async (client, peer) => {
      assert.equal(await get(client, peer), 'hello')
      assert.equal(peer.open, 1)
      const [first] = sockets
      act(first ?? assert.fail('no connection'))
      await waitFor('the connection is closed', () => peer.open === 0)
      assert.equal(await get(client, peer), 'hello')
    })
  }
})

test('PeerClient does not use a connection again that the peer says it closes', async () => {
  await withRawPeer(
    (socket) => socket.write('HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello'),
    async (client, peer) => {
      assert.equal(await get(client, peer), 'hello')
      await waitFor('the connection is closed', () => peer.open === 0)
    },
  )
})

test('PeerClient ends connections that have been idle for long, and keeps few', async () => {
  await withRawPeer(
    (socket) => socket.write(HELLO),
    async (client, peer) => {
      assert.equal(await get(client, peer), 'hello')
      await waitFor('the connection is closed', () => peer.open === 0)
    },
    { idleTimeout: 50 },
  )
  await withRawPeer(
    (socket) => socket.write(HELLO),
    async (client, peer) => {
      // All at the same time, each on its own connection.
      const replies = await Promise.all(Array.from({ length: 20 }, () => client.call(peer.peer, CALL, never)))
      assert.equal(peer.open, 20)
      for (const { body } of replies) assert.equal(String(await read(body)), 'hello')
      await waitFor('eight connections are kept', () => peer.open === 8)
    },
  )
})

test('PeerClient keeps few idle connections of all peers together, and none when it is closed', async () => {
  const client = new PeerClient()
  const peers = await Promise.all(
    Array.from({ length: 66 }, () => startRawPeer((socket) => void socket.on('data', () => socket.write(HELLO)))),
  )
  for (const peer of peers) assert.equal(await get(client, peer), 'hello')
  assert.equal(client.idle, 64)
  const open = () => peers.reduce((sum, peer) => sum + peer.open, 0)
  await waitFor('two connections are closed', () => open() === 64)
  const [first, last] = [peers[0], peers.at(-1)]
  assert.deepEqual([first?.open, last?.open], [0, 1])
  client.close()
  await waitFor('all connections are closed', () => open() === 0)
  assert.equal(client.idle, 0)
  await assert.rejects(client.call(last?.peer ?? assert.fail(), CALL, never), /the client is closed/)
  for (const peer of peers) await peer.close()
})

test('PeerClient ends a call that is aborted in the middle of the head, and its connection', async () => {
  const abort = new AbortController()
  await withRawPeer(
    (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-', () => abort.abort()),
    async (client, peer) => {
      await assert.rejects(within('the failure', client.call(peer.peer, CALL, abort.signal)), /cancelled/)
      await waitFor('the connection is closed', () => peer.open === 0)
    },
  )
})

test('PeerClient ends a read of the body that waits when it is cancelled', async () => {
  await withRawPeer(
    (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello'),
    async (client, peer) => {
      const { body } = await client.call(peer.peer, CALL, never)
      assert.equal(String(Buffer.from((await body.next()) ?? [])), 'hello')
      const waiting = assert.rejects(within('the end of the read', body.next()), PeerError)
      await body.cancel()
      await waiting
      await waitFor('the connection is closed', () => peer.open === 0)
    },
  )
})

test('PeerClient says what is not HTTP, and puts it down to the peer', async () => {
  await withRawPeer(
    (socket) => socket.write('SSH-2.0-x\r\n\r\n'),
    async (client, peer) => {
      await assert.rejects(client.call(peer.peer, CALL, never), (error) => {
        assert.ok(error instanceof PeerError)
        assert.match(error.message, /127\.0\.0\.1:\d+: expected a status line/)
        assert.equal(error.failure, 'invalid')
        return true
      })
      await waitFor('the connection is closed', () => peer.open === 0)
    },
  )
})

/** Bytes in which no two offsets within a chunk are alike. */
function pattern(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length)
  let state = 1
  for (let at = 0; at < length; at++) {
    state = (Math.imul(state, 1_103_515_245) + 12_345) >>> 0
    bytes[at] = state >>> 16
  }
  return bytes
}

const LONG = pattern(6_000_000)
const identity = createTlsIdentity([SWARM_KEY])

for (const tls of [undefined, identity]) {
  const how = tls === undefined ? 'plain' : 'TLS'
  test(`PeerClient leaves each chunk as it is until the next is asked for, however late (${how})`, async () => {
    const handler = () => new Response(LONG, { headers: { 'content-length': String(LONG.length) } })
    const listener = await listen(handler, { host: '127.0.0.1', port: 0, tls, onError: (e) => assert.fail(`${e}`) })
    const client = new PeerClient({ tls, headTimeout: 5_000 })
    const peer = { id: '', host: '127.0.0.1', port: listener.port }
    try {
      const { body } = await client.call(peer, CALL, never)
      let at = 0
      for (let turn = 0, chunk = await body.next(); chunk !== undefined; turn++, chunk = await body.next()) {
        // At times for so long that everything comes that can.
        await new Promise((resolve) => setTimeout(resolve, turn % 10 === 0 ? 20 : 0))
        assert.ok(Buffer.from(LONG.buffer, at, chunk.length).equals(chunk), `the bytes from ${at} on`)
        at += chunk.length
      }
      assert.equal(at, LONG.length)
    } finally {
      client.close()
      await listener.close(AbortSignal.abort())
    }
  })
}

for (const tls of [undefined, identity]) {
  test(`PeerClient keeps the connection over which a door has refused (${tls === undefined ? 'plain' : 'TLS'})`, async () => {
    const refusal = JSON.stringify({ errors: [{ code: 'BLOB_UNKNOWN', message: 'x'.repeat(200) }] })
    const init = { status: 404, headers: { 'content-length': String(refusal.length) } }
    const onError = (error: unknown) => assert.fail(`${error}`)
    const listener = await listen(() => new Response(refusal, init), {
      host: '127.0.0.1',
      port: 0,
      tls,
      onError,
    })
    const client = new PeerClient({ tls, headTimeout: 5_000 })
    try {
      for (let round = 0; round < 20; round++) {
        const { status, body } = await client.call({ host: '127.0.0.1', port: listener.port }, CALL, never)
        await body.cancel()
        assert.deepEqual([status, client.idle], [404, 1])
      }
    } finally {
      client.close()
      await listener.close(AbortSignal.abort())
    }
  })
}

test('PeerClient uses a connection for others only when the last chunk is not needed any more', async () => {
  let answers = 0
  const onRequest = (socket: Socket) => {
    const text = String(answers++ % 10).repeat(50_000)
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${text.length}\r\n\r\n${text}`)
  }
  await withRawPeer(onRequest, async (client, peer) => {
    const { body } = await client.call(peer.peer, CALL, never)
    let last: Uint8Array = new Uint8Array(0)
    for (let length = 0; length < 50_000; length += last.length) last = (await body.next()) ?? assert.fail('too short')
    assert.equal(await get(client, peer), '1'.repeat(50_000))
    assert.equal(String(Buffer.from(last)), '0'.repeat(last.length))
    assert.equal(peer.accepted, 2)
    await body.cancel()
    assert.equal(await get(client, peer), '2'.repeat(50_000))
    assert.equal(peer.accepted, 2)
  })
})
