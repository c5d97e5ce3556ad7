import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type ServerHttp2Stream } from 'node:http2'
import type { Socket } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import { type ContainerdClient, connectContainerd } from '../../../../lib/containerd/client/client.ts'
import { content, images, version } from '../../../../lib/containerd/client/messages.ts'
import { digestOf, withTemporaryDirectory } from '../../../fixtures/image.ts'
import { waitFor } from '../../../fixtures/wait.ts'

const never = new AbortController().signal
const DIGEST = digestOf(Uint8Array.of(1))

function framed(message: Uint8Array, flag = 0, length = message.length): Buffer {
  const prefix = Buffer.from([flag, 0, 0, 0, 0])
  prefix.writeUInt32BE(length, 1)
  return Buffer.concat([prefix, message])
}

interface Asked {
  readonly headers: IncomingHttpHeaders
  readonly sent: Buffer
  /** Answers with these chunks, and with a status unless that is missing: then it goes on. */
  answer(chunks: readonly Uint8Array[], status?: { readonly code: number; readonly message?: string }): void
  readonly stream: ServerHttp2Stream
}

/** A client of a server that answers each call so. */
async function withServer(
  answer: (asked: Asked) => void,
  use: (client: ContainerdClient) => Promise<void>,
): Promise<void> {
  await withTemporaryDirectory(async (directory) => {
    const server = createServer()
    const sockets = new Set<Socket>()
    server.on('connection', (socket: Socket) => sockets.add(socket))
    server.on('stream', async (stream, headers) => {
      stream.on('error', () => undefined)
      const chunks: Buffer[] = []
      stream.on('data', (chunk: Buffer) => chunks.push(chunk))
      await once(stream, 'end')
      answer({
        headers,
        sent: Buffer.concat(chunks),
        stream,
        answer(parts, status) {
          stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { waitForTrailers: true })
          stream.on('wantTrailers', () => {
            if (status === undefined) return stream.close()
            const { code, message } = status
            stream.sendTrailers({ 'grpc-status': String(code), ...(message && { 'grpc-message': message }) })
          })
          for (const part of parts) stream.write(part)
          if (status !== undefined) stream.end()
        },
      })
    })
    const socket = join(directory, 'containerd.sock')
    server.listen(socket)
    await once(server, 'listening')
    const connection = connectContainerd(socket, { callTimeout: 5_000, stallTimeout: 5_000 })
    try {
      await use(connection.in('k8s.io'))
    } finally {
      connection.close()
      for (const one of sockets) one.destroy()
      server.close()
    }
  })
}

const OK = { code: 0 }
const infos = ['a', 'b', 'c'].map((text) => {
  const digest = digestOf(Buffer.from(text))
  return { digest, size: 3, labels: { [text]: 'label' } }
})

test('a call goes to its path in its namespace, and its answer is read', () =>
  withServer(
    ({ headers, sent, answer }) => {
      assert.equal(headers[':path'], '/containerd.services.images.v1.Images/Get')
      assert.equal(headers['containerd-namespace'], 'k8s.io')
      assert.equal(headers.te, 'trailers')
      assert.deepEqual(sent, framed(images.get.request.write({ name: 'a/b:1' })))
      const target = { mediaType: 'type', digest: DIGEST, size: 7 }
      answer([framed(images.get.answer.write({ image: { name: 'a/b:1', target } }))], OK)
    },
    async (client) =>
      assert.deepEqual(await client.image('a/b:1', never), {
        name: 'a/b:1',
        target: { mediaType: 'type', digest: DIGEST, size: 7 },
      }),
  ))

test('messages are read however they are cut into pieces', () => {
  const sent = Buffer.concat(infos.map((info) => framed(content.list.answer.write({ info: [info] }))))
  const cuts = [1, 4, 5, 6, 50, sent.length]
  return withServer(
    ({ answer }) => {
      const size = cuts.shift() ?? sent.length
      const parts = Array.from({ length: Math.ceil(sent.length / size) }, (_, at) =>
        sent.subarray(at * size, (at + 1) * size),
      )
      answer(parts, OK)
    },
    async (client) => {
      for (let left = cuts.length; left > 0; left--) {
        const found: unknown[] = []
        for await (const info of client.listContent(never)) found.push(info)
        assert.deepEqual(found, infos)
      }
    },
  )
})

test('a stream without any message may say in its head that it is over', () =>
  withServer(
    ({ stream }) =>
      stream.respond({ ':status': 200, 'content-type': 'application/grpc', 'grpc-status': '0' }, { endStream: true }),
    async (client) => {
      for await (const info of client.listContent(never)) assert.fail(JSON.stringify(info))
      await assert.rejects(client.version(never), { name: 'ContainerdError', code: 'unexpected' })
    },
  ))

test('what a server says instead of an answer has its name and its words', async () => {
  for (const [code, name] of [
    [5, undefined],
    [7, 'denied'],
    [12, 'unsupported'],
    [2, 'unexpected'],
  ] as const) {
    await withServer(
      ({ answer }) => answer([], { code, message: 'not %22here%22' }),
      async (client) => {
        const call = client.contentInfo(DIGEST, never)
        if (name === undefined) assert.equal(await call, undefined)
        else
          await assert.rejects(call, {
            name: 'ContainerdError',
            code: name,
            message: 'containerd Content.Info: not "here"',
          })
      },
    )
  }
})

test('an answer that is none is refused', async () => {
  const good = version.version.answer.write({ version: '1', revision: '2' })
  const cases: readonly [string, (asked: Asked) => void][] = [
    ['unexpected', ({ answer }) => answer([framed(good, 1)], OK)],
    ['unexpected', ({ answer }) => answer([framed(good, 0, 0x7fffffff)], OK)],
    ['unexpected', ({ answer }) => answer([framed(Uint8Array.of(0x0a, 0xff))], OK)],
    ['unexpected', ({ answer }) => answer([], OK)],
    [
      'unexpected',
      ({ stream }) => stream.respond({ ':status': 200, 'content-type': 'text/html' }, { endStream: true }),
    ],
    ['unexpected', ({ stream }) => stream.respond({ ':status': 404 }, { endStream: true })],
    // Ended in the middle, as by a server that dies.
    ['unavailable', ({ stream }) => stream.close()],
    [
      'unavailable',
      ({ stream }) => stream.respond({ ':status': 200, 'content-type': 'application/grpc' }, { endStream: true }),
    ],
  ]
  for (const [code, answer] of cases) {
    await withServer(answer, (client) => assert.rejects(client.version(never), { name: 'ContainerdError', code }))
  }
})

test('a call ends with its signal, at the server as well', async () => {
  let isClosed = false
  await withServer(
    ({ stream, answer }) => {
      stream.on('close', () => {
        isClosed = true
      })
      answer([framed(content.list.answer.write({ info: infos }))])
    },
    async (client) => {
      const controller = new AbortController()
      const reason = new Error('enough')
      await assert.rejects(async () => {
        for await (const _ of client.listContent(controller.signal)) controller.abort(reason)
      }, reason)
      await waitFor('the server hears of it', () => isClosed)
    },
  )
})
