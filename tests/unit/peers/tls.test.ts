import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { request as httpsRequest } from 'node:https'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { setImmediate } from 'node:timers/promises'
import { createServer, type TlsOptions } from 'node:tls'
import fc from 'fast-check'
import { PeerClient } from '../../../lib/peers/client.ts'
import { PeerError } from '../../../lib/peers/error.ts'
import { createTlsIdentity } from '../../../lib/peers/tls.ts'
import { type ByteSource, sourceResponse } from '../../../lib/platform/byte-source.ts'
import { listen } from '../../../lib/platform/listen.ts'
import type { MutualTls } from '../../../lib/platform/listener.ts'
import { runtimeName } from '../../../lib/platform/runtime.ts'
import type { ClientTls } from '../../../lib/platform/socket-source.ts'
import { startHttpPeer } from '../../doubles/http-peer.ts'
import { SWARM_KEY } from '../../fixtures/credentials.ts'
import { RawClient, requestText } from '../../fixtures/http.ts'
import { never } from '../../fixtures/layout.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

const OTHER_KEY = new Uint8Array(32).fill(8)
const ours = createTlsIdentity([SWARM_KEY])
const another = createTlsIdentity([SWARM_KEY])
const stranger = createTlsIdentity([OTHER_KEY])

test('tls identity has the authority of its swarm key, the same on every node, and a certificate of its own', () => {
  const [one, two] = [ours, another].map(({ ca }) => new X509Certificate(ca[0] ?? ''))
  assert.ok(one !== undefined && two !== undefined)
  assert.deepEqual(
    one.publicKey.export({ type: 'spki', format: 'der' }),
    two.publicKey.export({ type: 'spki', format: 'der' }),
  )
  assert.equal(one.subject, two.subject)
  const [leaf, other] = [ours, another].map(({ cert }) => new X509Certificate(cert))
  assert.ok(leaf !== undefined && other !== undefined)
  assert.ok(leaf.verify(one.publicKey) && other.verify(one.publicKey))
  assert.notEqual(leaf.serialNumber, other.serialNumber)
  assert.notEqual(ours.key, another.key)
  const authority = new X509Certificate(stranger.ca[0] ?? '')
  assert.notEqual(authority.subject, one.subject)
  assert.ok(!leaf.verify(authority.publicKey))
})

test('tls identity derives the authority that it always derived', () => {
  // Changing this would cut a running swarm in two.
  const authority = new X509Certificate(createTlsIdentity([new Uint8Array(32)]).ca[0] ?? '')
  assert.equal(authority.subject, 'CN=swarmirror 27f98bd0c24a5c10')
})

test('tls identity makes an authority from every swarm key', () => {
  fc.assert(
    fc.property(fc.uint8Array({ minLength: 32, maxLength: 32 }), (key) => {
      const { ca, cert } = createTlsIdentity([key])
      const authority = new X509Certificate(ca[0] ?? '')
      assert.ok(authority.verify(authority.publicKey))
      assert.ok(new X509Certificate(cert).verify(authority.publicKey))
    }),
    { numRuns: 25 },
  )
})

test('tls identity is good for as long as its authority, whatever the clock says when it is made or used', () => {
  const { ca, cert } = createTlsIdentity([SWARM_KEY])
  for (const { validFrom, validTo } of [cert, ...ca].map((pem) => new X509Certificate(pem)))
    assert.deepEqual([Date.parse(validFrom), Date.parse(validTo)], [0, Date.UTC(2050, 0) - 1_000])
})

test('tls identity of two keys is of the first and trusts both', () => {
  const { ca, cert } = createTlsIdentity([OTHER_KEY, SWARM_KEY])
  assert.equal(ca.length, 2)
  const [first, second] = ca.map((pem) => new X509Certificate(pem))
  assert.ok(first && second && new X509Certificate(cert).verify(first.publicKey))
  assert.equal(second.subject, new X509Certificate(ours.ca[0] ?? '').subject)
  assert.throws(() => createTlsIdentity([]), /at least one swarm key/)
})

test('certificates say what they are for', () => {
  const { ca, cert, servername } = createTlsIdentity([SWARM_KEY])
  const [authority, node] = [new X509Certificate(ca[0] ?? ''), new X509Certificate(cert)]
  assert.deepEqual([authority.ca, node.ca], [true, false])
  assert.ok(node.checkIssued(authority))
  assert.equal(node.subjectAltName, `DNS:${servername}`)
  assert.equal(node.checkHost(servername), servername)
})

/** Runs `use` with a server that answers everybody who completes the handshake. */
async function withServer(
  tls: MutualTls | undefined,
  use: (port: number, answered: () => number) => Promise<void>,
): Promise<void> {
  let answered = 0
  const handler = () => {
    answered++
    return new Response('secret', { headers: { 'content-length': '6' } })
  }
  const listener = await listen(handler, {
    host: '127.0.0.1',
    port: 0,
    tls,
    onError: (error) => assert.fail(`${error}`),
  })
  try {
    await use(listener.port, () => answered)
  } finally {
    await within('the end of the listener', listener.close(AbortSignal.abort()))
  }
}

/** The result of a client: the body, or why it got none. */
async function ask(port: number, tls: ClientTls | undefined): Promise<string> {
  const client = new PeerClient({ headTimeout: 5_000, tls })
  try {
    const peer = { id: '', host: '127.0.0.1', port }
    const { status, body } = await client.call(peer, { method: 'GET', path: '/', headers: {} }, never)
    return `${status} ${Buffer.from((await body.next()) ?? []).toString()}`
  } catch (error) {
    return String(error)
  } finally {
    client.close()
  }
}

/** The result of a client with any TLS options. */
async function askWith(port: number, options: object): Promise<string> {
  return await new Promise((resolve) => {
    const outgoing = httpsRequest({ host: '127.0.0.1', port, path: '/', agent: false, ...options }, (message) => {
      message.resume()
      message.on('error', (error) => resolve(String(error)))
      message.on('end', () => resolve(`status ${message.statusCode}`))
    })
    outgoing.on('error', (error) => resolve(String(error)))
    outgoing.end()
  })
}

test(`listen with TLS answers nodes of its swarm, on one connection after the other and on kept ones`, async () => {
  await withServer(ours, async (port) => {
    assert.equal(await ask(port, another), '200 secret')
    const client = new PeerClient({ tls: another })
    const peer = { id: '', host: '127.0.0.1', port }
    for (let round = 0; round < 3; round++) {
      const { status, body } = await client.call(peer, { method: 'GET', path: '/', headers: {} }, never)
      assert.equal(status, 200)
      assert.equal((await body.next())?.byteLength, 6)
      assert.equal(await body.next(), undefined)
    }
    client.close()
  })
})

test(`listen with TLS answers nobody else, and says so at once`, async () => {
  const { ca, cert, key, servername } = ours
  const trusting = { ca: [...ca], servername }
  await withServer(ours, async (port, answered) => {
    for (const [what, options] of [
      ['no certificate', trusting],
      ["another swarm's certificate", { ...trusting, cert: stranger.cert, key: stranger.key }],
      ['no certificate, no check', { rejectUnauthorized: false }],
      ["another swarm's certificate, no check", { ...stranger, rejectUnauthorized: false }],
      ['TLS 1.2', { ...trusting, cert, key, maxVersion: 'TLSv1.2' }],
    ] as const) {
      const answer = await within(what, askWith(port, options), 5_000)
      assert.match(answer, /Error/, what)
    }
    assert.match(await within('another swarm', ask(port, stranger), 5_000), /PeerError/)
    assert.match(await within('plain HTTP', ask(port, undefined), 5_000), /PeerError/)
    assert.equal(answered(), 0)
    assert.equal(await ask(port, another), '200 secret')
  })
})

test(`listen with TLS trusts both keys of a rotation, and is trusted by both`, async () => {
  const rotating = createTlsIdentity([OTHER_KEY, SWARM_KEY])
  const before = createTlsIdentity([SWARM_KEY, OTHER_KEY])
  await withServer(rotating, async (port) => {
    assert.equal(await ask(port, before), '200 secret')
    assert.equal(await ask(port, stranger), '200 secret')
    assert.match(await ask(port, ours), /PeerError/, 'who does not know the new key does not trust it')
  })
  await withServer(before, async (port) => {
    assert.equal(await ask(port, rotating), '200 secret')
    assert.equal(await ask(port, ours), '200 secret')
  })
})

test(`listen with TLS ends connections that never shake hands when it closes`, async () => {
  await withServer(ours, async (port) => {
    const silent = await RawClient.connect(port)
    assert.equal(await ask(port, another), '200 secret')
    assert.equal(silent.ending, 'open')
    silent.send(requestText('GET', '/'))
    await waitFor('the end of plain HTTP', async () => (await silent.ended()) !== 'open')
    await RawClient.connect(port)
  })
})

test('PeerClient with TLS gets nothing from a plain peer, nor from another swarm, at once', async () => {
  const plain = await startHttpPeer((_, outgoing) => outgoing.end('secret'))
  assert.match(await within('the failure', ask(plain.peer.port, ours), 5_000), /PeerError/)
  await plain.close()
  await withServer({ ...stranger, ca: [...ours.ca] }, async (port, answered) => {
    assert.match(await within('the failure', ask(port, ours), 5_000), /PeerError/)
    assert.equal(answered(), 0)
  })
})

test('PeerClient with TLS does not believe a certificate of the swarm that is for another name', async () => {
  await withServer(ours, async (port) => {
    assert.match(await ask(port, { ...another, servername: 'other.example' }), /PeerError/)
  })
})

test('PeerClient with TLS resumes the session of a connection that has ended, where the runtime can', async () => {
  const resumed: boolean[] = []
  const { ca, cert, key } = ours
  const options: TlsOptions = { ca: [...ca], cert, key, requestCert: true, minVersion: 'TLSv1.3' }
  const server = createServer(options, (socket) => {
    resumed.push(socket.isSessionReused())
    socket.once('data', () => socket.end('HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi'))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  const client = new PeerClient({ tls: another, headTimeout: 5_000 })
  try {
    const { port } = server.address() as AddressInfo
    for (let round = 0; round < 3; round++) {
      const { body } = await client.call({ host: '127.0.0.1', port }, { method: 'GET', path: '/', headers: {} }, never)
      assert.equal((await body.next())?.byteLength, 2)
      assert.equal(await body.next(), undefined)
    }
    assert.deepEqual(resumed, [false, ...(runtimeName === 'deno' ? [false, false] : [true, true])])
  } finally {
    client.close()
    server.close()
  }
})

test('PeerClient with TLS sees the end of a body that breaks off, however much of it waits to be read', async () => {
  for (const length of [10_000, 300_000, 900_000, 2_000_000]) {
    let left = length
    const source: ByteSource = {
      async next() {
        if (left === 0) throw new Error('no more')
        const chunk = new Uint8Array(Math.min(left, 100_000))
        left -= chunk.length
        return chunk
      },
      cancel: async () => undefined,
    }
    const answer = () => sourceResponse(source, { headers: { 'content-length': '3000000' } })
    const listener = await listen(answer, { host: '127.0.0.1', port: 0, tls: ours, onError: () => undefined })
    const client = new PeerClient({ tls: another, headTimeout: 5_000 })
    try {
      const peer = { host: '127.0.0.1', port: listener.port }
      const { body } = await client.call(peer, { method: 'GET', path: '/', headers: {} }, never)
      let got = 0
      const all = async () => {
        for (let chunk = await body.next(); chunk !== undefined; chunk = await body.next()) {
          got += chunk.length
          // Meanwhile more comes than the client takes at once.
          await setImmediate()
        }
      }
      await assert.rejects(within('the end', all()), PeerError)
      assert.equal(got, length)
    } finally {
      client.close()
      await within('the end of the listener', listener.close(AbortSignal.abort()))
    }
  }
})

test('PeerClient with TLS takes no more from a peer than its reader and the buffers of the system do', async () => {
  const most = 48 * 1024 * 1024
  const buffers = 16 * 1024 * 1024
  let given = 0
  const source: ByteSource = {
    async next() {
      if (given === most) return undefined
      given += 128 * 1024
      return new Uint8Array(128 * 1024)
    },
    cancel: async () => undefined,
  }
  const answer = () => sourceResponse(source, { headers: { 'content-length': `${most}` } })
  const listener = await listen(answer, { host: '127.0.0.1', port: 0, tls: ours, onError: assert.ifError })
  const client = new PeerClient({ tls: another, headTimeout: 5_000 })
  try {
    const peer = { host: '127.0.0.1', port: listener.port }
    const { body } = await client.call(peer, { method: 'GET', path: '/', headers: {} }, never)
    let taken = 0
    for (let chunk = await body.next(); chunk !== undefined; chunk = await body.next()) {
      taken += chunk.length
      assert.ok(given - taken < buffers, `${given - taken} bytes wait`)
      // A reader that is slower than the connection: it waits until nothing comes any more.
      for (let before = -1; before !== given; ) {
        before = given
        for (let turn = 0; turn < 20; turn++) await setImmediate()
      }
    }
    assert.equal(taken, most)
  } finally {
    client.close()
    await listener.close(AbortSignal.abort())
  }
})

test('listen with TLS loses nothing of what it has sent when it closes before its client has read', async () => {
  const content = new Uint8Array(100_000).fill(7)
  const ended = Promise.withResolvers<void>()
  const listener = await listen(
    (_, admission) => {
      void admission.ended.then(() => ended.resolve())
      return new Response(content, { headers: { 'content-length': String(content.length) } })
    },
    { host: '127.0.0.1', port: 0, tls: ours, onError: (error) => assert.fail(String(error)) },
  )
  const client = new PeerClient({ tls: another, headTimeout: 5_000 })
  try {
    const peer = { host: '127.0.0.1', port: listener.port }
    const { body } = await client.call(peer, { method: 'GET', path: '/', headers: {} }, never)
    await within('all is sent', ended.promise)
    assert.equal(await within('the end of the listener', listener.close(never)), 0)
    let length = 0
    for (let chunk = await body.next(); chunk !== undefined; chunk = await body.next()) length += chunk.length
    assert.equal(length, content.length)
  } finally {
    client.close()
  }
})
