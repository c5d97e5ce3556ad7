import assert from 'node:assert/strict'
import { generateKeyPairSync } from 'node:crypto'
import { promises } from 'node:dns'
import type { AddressInfo } from 'node:net'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { test } from 'node:test'
import { createServer as createTlsServer, type TLSSocket } from 'node:tls'
import { makeAuthorityCertificate, makeNodeCertificate } from '../../../lib/peers/certificate.ts'
import { createProbe, type UpstreamHost } from '../../../lib/upstream/probe.ts'
import type { ProxySettings } from '../../../lib/upstream/proxy.ts'
import { exhausted } from '../../fixtures/exhausted.ts'
import { never } from '../../fixtures/layout.ts'
import { PATIENCE } from '../../fixtures/wait.ts'

/** Milliseconds for answers that must come; probes without an answer get less. */
const TIME = PATIENCE
const SHORT = 50

const NAME = 'localhost'

/** An authority, and the key and certificate of a server or client that it has signed. */
function makeIdentity() {
  const authority = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const own = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  return {
    ca: makeAuthorityCertificate(authority),
    cert: makeNodeCertificate(authority, own.publicKey, NAME),
    key: own.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString(),
  }
}

interface Scene {
  readonly port: number
  /** The received text. */
  readonly received: () => string
}

/** Runs `use` with a server on loopback whose connections the test handles. */
async function withServer(server: Server, handle: (socket: Socket) => void, use: (scene: Scene) => Promise<void>) {
  const sockets = new Set<Socket>()
  let received = ''
  server.on('tlsClientError', () => undefined)
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
  })
  server.on(server.listenerCount('secureConnection') > 0 ? 'secureConnection' : 'connection', (socket: Socket) => {
    socket.on('error', () => undefined)
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1')
    })
    handle(socket)
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  try {
    await use({ port: (server.address() as AddressInfo).port, received: () => received })
  } finally {
    for (const socket of sockets) socket.destroy()
    await new Promise((resolve) => server.close(resolve))
  }
}

const answering = (text: string) => (socket: Socket) => void socket.once('data', () => socket.end(text))
const ok = answering('HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm="x"\r\n\r\n')

const probeOf = (host: UpstreamHost, { time = TIME, ...proxies }: ProxySettings & { time?: number } = {}) =>
  createProbe(proxies)(host, true, time, never)
const at = (port: number, more: Partial<UpstreamHost> = {}): UpstreamHost => ({
  url: `http://127.0.0.1:${port}/v2`,
  isNamed: true,
  ...more,
})

for (const [status, state] of [
  [200, 'answers'],
  [301, 'answers'],
  [401, 'answers'],
  [403, 'answers'],
  [404, 'answers'],
  [429, 'answers'],
  [500, 'silent'],
  [502, 'silent'],
  [503, 'silent'],
] as const) {
  test(`createProbe: a registry that answers ${status} ${state === 'answers' ? 'answers' : 'is silent'}`, () =>
    withServer(createServer(), answering(`HTTP/1.1 ${status} x\r\n\r\n`), async ({ port }) => {
      assert.deepEqual(await probeOf(at(port)), { state, reason: `it answers ${status}` })
    }))
}

test('createProbe asks for the base of the API, without credentials', () =>
  withServer(createServer(), ok, async ({ port, received }) => {
    await probeOf(at(port, { url: `http://user:secret@127.0.0.1:${port}/v2/hub` }))
    assert.deepEqual(received().split('\r\n'), [
      'GET /v2/hub/ HTTP/1.1',
      `Host: 127.0.0.1:${port}`,
      'User-Agent: swarmirror',
      'Accept: */*',
      'Connection: close',
      '',
      '',
    ])
  }))

for (const [what, handle, reason] of [
  ['ends without an answer', (socket: Socket) => void socket.once('data', () => socket.end()), /closed|ECONNRESET/],
  ['speaks another protocol', answering(`220 mail\r\n\r\n${'x'.repeat(5_000)}`), /not HTTP/],
  ['says too much at once', answering('x'.repeat(50_000)), /not HTTP/],
] as const) {
  test(`createProbe: a registry that ${what} is silent`, () =>
    withServer(createServer(), handle, async ({ port }) => {
      const { state, reason: told } = await probeOf(at(port))
      assert.equal(state, 'silent')
      assert.match(told, reason)
    }))
}

test('createProbe: a registry that hangs is silent when the time is over, before TLS, in it and after it', async () => {
  const { ca, cert, key } = makeIdentity()
  const hang = () => undefined
  for (const [server, scheme] of [
    [createServer(), 'http'],
    [createServer(), 'https'],
    [createTlsServer({ cert, key }, hang), 'https'],
  ] as const) {
    await withServer(server, hang, async ({ port }) => {
      const result = await probeOf(at(port, { url: `${scheme}://${NAME}:${port}/v2`, ca: [ca] }), { time: SHORT })
      assert.deepEqual(result, { state: 'silent', reason: `no answer within ${SHORT} ms` })
    })
  }
})

test('createProbe: a registry that refuses connections, or whose name does not resolve, is silent', async () => {
  const gone = createServer()
  let free = 0
  await withServer(gone, ok, async ({ port }) => {
    free = port
  })
  const refused = await probeOf(at(free))
  assert.equal(refused.state, 'silent')
  assert.match(refused.reason, /ECONNREFUSED|refused|closed/i)
  const unknown = await probeOf(at(1, { url: 'https://registry.invalid/v2', isNamed: false }))
  assert.equal(unknown.state, 'silent')
  assert.notEqual(unknown.reason, '')
})

test('createProbe takes no registry for silent when the process has no descriptor left', async () => {
  const { probed } = await exhausted()
  assert.deepEqual(probed, { before: 'answers', during: 'EMFILE' })
})

test('createProbe tries the addresses of a name, and says why the last one failed', async () => {
  const lookup = promises.lookup
  const addresses = ['127.0.0.2', '127.0.0.1'].map((address) => ({ address, family: 4 }))
  Object.assign(promises, { lookup: async () => addresses })
  try {
    let free = 0
    await withServer(createServer(), ok, async ({ port }) => {
      free = port
      assert.equal((await probeOf(at(port, { url: `http://two.example:${port}/v2` }))).reason, 'it answers 401')
    })
    for (const scheme of ['http', 'https']) {
      const { state, reason } = await probeOf(at(free, { url: `${scheme}://two.example:${free}/v2` }))
      assert.equal(state, 'silent')
      assert.match(reason, /ECONNREFUSED.*127\.0\.0\.1/)
    }
  } finally {
    Object.assign(promises, { lookup })
  }
})

test('createProbe verifies a certificate only where hosts.toml names its authority', async () => {
  const [mine, other] = [makeIdentity(), makeIdentity()]
  await withServer(
    createTlsServer(mine, () => undefined),
    ok,
    async ({ port }) => {
      const ask = (more: Partial<UpstreamHost>) => probeOf(at(port, { url: `https://${NAME}:${port}/v2`, ...more }))
      assert.equal((await ask({})).state, 'answers')
      assert.equal((await ask({ ca: [other.ca, mine.ca] })).state, 'answers')
      assert.equal((await ask({ ca: [other.ca] })).state, 'silent')
    },
  )
})

test('createProbe shows the client certificate that hosts.toml names', async () => {
  const [server, client] = [makeIdentity(), makeIdentity()]
  const demanding = createTlsServer(
    { cert: server.cert, key: server.key, ca: client.ca, requestCert: true, rejectUnauthorized: false },
    () => undefined,
  )
  const handle = (socket: Socket) =>
    ((socket as TLSSocket).authorized ? ok : answering('HTTP/1.1 503 no certificate\r\n\r\n'))(socket)
  await withServer(demanding, handle, async ({ port }) => {
    const ask = (more: Partial<UpstreamHost>) => probeOf(at(port, { url: `https://${NAME}:${port}/v2`, ...more }))
    assert.equal((await ask({})).reason, 'it answers 503')
    assert.equal((await ask({ cert: [client.cert], key: [client.key] })).reason, 'it answers 401')
  })
})

test('createProbe does not ask at a reserved address that only a client names, by whatever name', () =>
  withServer(createServer(), ok, async ({ port, received }) => {
    for (const host of [
      '127.0.0.1',
      'localhost',
      '[::1]',
      '2130706433',
      '0x7f.1',
      '[::ffff:127.0.0.1]',
      '169.254.169.254',
    ]) {
      const { state, reason } = await probeOf({ url: `http://${host}:${port}/v2`, isNamed: false })
      assert.deepEqual([host, state], [host, 'unasked'])
      assert.match(reason, /is a reserved address, and no hosts\.toml names it/)
    }
    assert.equal(received(), '')
  }))

test('createProbe ends with its signal', () =>
  withServer(
    createServer(),
    () => undefined,
    async ({ port }) => {
      const left = new AbortController()
      const probing = createProbe({})(at(port), false, TIME, left.signal)
      left.abort(new Error('closed'))
      await assert.rejects(probing, /closed/)
    },
  ))

/** A proxy that connects everything to the same port on loopback, whatever name it is asked for. */
function proxyTo(port: number): (socket: Socket) => void {
  return (socket) =>
    void socket.once('data', (head) => {
      const target = connect(port, '127.0.0.1', () => {
        if (head.toString().startsWith('CONNECT')) socket.write('HTTP/1.1 200 Connection established\r\n\r\n')
        else target.write(head)
        socket.pipe(target).pipe(socket)
      })
      target.on('error', () => socket.destroy())
    })
}

test('createProbe asks through the proxy, over HTTP with the whole URL and over TLS through a tunnel', async () => {
  const identity = makeIdentity()
  await withServer(createServer(), ok, (plain) =>
    withServer(createServer(), proxyTo(plain.port), async ({ port, received }) => {
      const proxies = { http: `http://us%65r:s%fcret%C3%BC@127.0.0.1:${port}` }
      const result = await probeOf({ url: 'http://registry.invalid/v2', isNamed: false }, proxies)
      assert.equal(result.reason, 'it answers 401')
      const [line, host] = received().split('\r\n')
      assert.deepEqual([line, host], ['GET http://registry.invalid/v2/ HTTP/1.1', 'Host: registry.invalid'])
      assert.match(received(), new RegExp(`^Proxy-Authorization: Basic ${btoa('user:s\u00fcret\u00c3\u00bc')}\r$`, 'm'))
    }),
  )
  await withServer(
    createTlsServer(identity, () => undefined),
    ok,
    (secure) =>
      withServer(createServer(), proxyTo(secure.port), async ({ port, received }) => {
        const host = { url: 'https://registry.invalid:5000/v2', isNamed: false }
        const result = await probeOf(host, { https: `127.0.0.1:${port}` })
        assert.equal(result.reason, 'it answers 401')
        assert.match(
          received(),
          /^CONNECT registry\.invalid:5000 HTTP\/1\.1\r\nHost: registry\.invalid:5000\r\nConnection: keep-alive\r\n\r\n/,
        )
        assert.doesNotMatch(received(), /\/v2\//)
        assert.equal(secure.received().split('\r\n')[0], 'GET /v2/ HTTP/1.1')
      }),
  )
})

test('createProbe: a registry that its proxy does not reach is silent', () =>
  withServer(createServer(), answering('HTTP/1.1 502 Bad Gateway\r\n\r\n'), async ({ port }) => {
    const proxies = { https: `127.0.0.1:${port}`, http: `127.0.0.1:${port}` }
    const tunnel = await probeOf({ url: 'https://registry.invalid/v2', isNamed: true }, proxies)
    assert.deepEqual(tunnel, { state: 'silent', reason: 'the proxy answers 502' })
    const plain = await probeOf({ url: 'http://registry.invalid/v2', isNamed: true }, proxies)
    assert.deepEqual(plain, { state: 'silent', reason: 'it answers 502' })
  }))

test('createProbe leaves hosts to containerd that it cannot ask through the proxy, and asks no reserved address through any', async () => {
  const socks = await probeOf({ url: 'https://registry.invalid/v2', isNamed: true }, { https: 'socks5://127.0.0.1:1' })
  assert.deepEqual(socks, { state: 'unasked', reason: 'it is behind a proxy of socks5:' })
  await withServer(createServer(), answering('HTTP/1.1 407 x\r\n\r\n'), async ({ port }) => {
    const login = await probeOf({ url: 'https://registry.invalid/v2', isNamed: true }, { https: `127.0.0.1:${port}` })
    assert.deepEqual(login, { state: 'unasked', reason: 'its proxy demands a login' })
  })
  const link = await probeOf({ url: 'https://169.254.169.254/v2', isNamed: false }, { https: '127.0.0.1:1' })
  assert.equal(link.state, 'unasked')
})
