import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer as createHttp2Server, type ServerHttp2Session } from 'node:http2'
import { createServer, type Server, type Socket } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { type Containerd, type ContainerdClient, connectContainerd } from '../../../../lib/containerd/client/client.ts'
import { withTemporaryDirectory } from '../../../fixtures/image.ts'
import { waitFor } from '../../../fixtures/wait.ts'

const never = new AbortController().signal

/** A client of a server on a socket. Both end afterwards, and no error may be left unhandled. */
async function withServer(
  server: Server | ReturnType<typeof createHttp2Server>,
  use: (client: ContainerdClient, containerd: Containerd) => Promise<void>,
): Promise<void> {
  await withTemporaryDirectory(async (directory) => {
    const socket = join(directory, 'containerd.sock')
    const sockets = new Set<Socket>()
    server.on('connection', (connection: Socket) => {
      sockets.add(connection)
      connection.on('error', () => undefined)
    })
    server.listen(socket)
    await once(server, 'listening')
    const containerd = connectContainerd(socket, { callTimeout: 5_000 })
    try {
      await use(containerd.in('k8s.io'), containerd)
    } finally {
      containerd.close()
      for (const connection of sockets) connection.destroy()
      server.close()
      await once(server, 'close')
    }
    // A late error would end the process here.
    await delay(50)
  })
}

const GONE = { name: 'ContainerdError', code: 'unavailable' }
const ENDINGS: Readonly<Record<string, (connection: Socket) => void>> = {
  'at once': (connection) => connection.destroy(),
  'with the first bytes': (connection) => connection.once('data', () => connection.destroy()),
  'a moment later': (connection) => connection.once('data', () => setTimeout(() => connection.destroy(), 5)),
}
for (const [when, end] of Object.entries(ENDINGS)) {
  test(`a connection that ends ${when} fails its calls, and nothing else`, () =>
    withServer(createServer(end), async (client) => {
      for (let attempt = 1; attempt <= 5; attempt++) await assert.rejects(client.version(never), GONE)
      await Promise.all(Array.from({ length: 5 }, () => assert.rejects(client.version(never), GONE)))
    }))
}

test('a server that does not answer in HTTP/2 is not containerd', () =>
  withServer(
    createServer((connection) => void connection.write('HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n')),
    (client) => assert.rejects(client.version(never), { name: 'ContainerdError', code: 'unexpected' }),
  ))

test('after a connection breaks, the next call makes another one for all', async () => {
  const sessions: ServerHttp2Session[] = []
  const server = createHttp2Server()
  server.on('session', (session) => sessions.push(session))
  server.on('stream', (stream) => {
    stream.on('error', () => undefined)
    stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '12' }, { endStream: true })
  })
  await withServer(server, async (client) => {
    const answered = { name: 'ContainerdError', code: 'unsupported' }
    const call = () => assert.rejects(client.version(never), answered)
    for (let round = 1; round <= 3; round++) {
      // At first the client may not know yet that its last connection has ended.
      await waitFor('three answers', () =>
        Promise.all([call(), call(), call()]).then(
          () => true,
          () => false,
        ),
      )
      assert.equal(sessions.length, round)
      sessions.at(-1)?.destroy()
    }
  })
})

test('a closed client ends its calls, including those that wait for a connection, and makes no more', async () => {
  const closed = { name: 'ContainerdError', code: 'closed' }
  await withServer(
    createServer(() => undefined),
    async (client, containerd) => {
      const calls = [client.version(never), client.version(never)].map((call) => assert.rejects(call, closed))
      containerd.close()
      calls.push(assert.rejects(client.version(never), closed))
      await Promise.all(calls)
    },
  )
  const server = createServer(() => undefined)
  await withServer(server, async (client, containerd) => {
    const connected = once(server, 'connection')
    const call = assert.rejects(client.version(never), closed)
    await connected
    containerd.close()
    await call
  })
})
