import assert from 'node:assert/strict'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { fileResponse } from '../../../lib/platform/file-response.ts'
import type { Handler, Listener } from '../../../lib/platform/listen.ts'
import { listenFast } from '../../../lib/platform/listen-fast.ts'
import { exchange, parseResponse, RawClient, requestText } from '../../fixtures/http.ts'
import { withTemporaryDirectory } from '../../fixtures/image.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

const CONTENT = Buffer.from(new Uint32Array(500_000).map((_, index) => Math.imul(index, 0x9e3779b1)).buffer)

async function withFastListener(
  handler: Handler,
  use: (listener: Listener, failures: readonly unknown[]) => Promise<void>,
): Promise<void> {
  const failures: unknown[] = []
  const listener = await listenFast(handler, { host: '127.0.0.1', port: 0, onError: (error) => failures.push(error) })
  try {
    await use(listener, failures)
  } finally {
    await within('the end of the listener', listener.close(AbortSignal.abort()))
  }
}

const urlOf = ({ port }: Listener) => `http://127.0.0.1:${port}/`

test('listenFast sends files and parts of them, exactly, and HEAD with their length', async () => {
  await withTemporaryDirectory(async (dir) => {
    const path = join(dir, 'blob')
    await writeFile(path, CONTENT)
    let part = { start: 0, length: CONTENT.length }
    const handler: Handler = ({ method }) => {
      const headers = { 'content-length': String(part.length), 'content-type': 'application/x', etag: '"x"' }
      const init = { status: part.start === 0 ? 200 : 206, headers }
      return method === 'HEAD' ? new Response(null, init) : fileResponse({ path, ...part }, init)
    }
    await withFastListener(handler, async (listener, failures) => {
      for (part of [part, { start: 7, length: 1_000_000 }, { start: CONTENT.length - 1, length: 1 }]) {
        for (const method of ['GET', 'HEAD']) {
          // A part of a part would be wrong: what the handler gives is what is sent.
          const response = await fetch(urlOf(listener), { method, headers: { range: 'bytes=3-5' } })
          assert.equal(response.status, part.start === 0 ? 200 : 206)
          const length = response.headers.get('content-length') ?? response.headers.get('x-swarmirror-length')
          assert.equal(length, String(part.length))
          assert.equal(response.headers.get('content-type'), 'application/x')
          assert.equal(response.headers.get('etag'), '"x"')
          const body = Buffer.from(await response.arrayBuffer())
          const expected = CONTENT.subarray(part.start, part.start + part.length)
          assert.ok(body.equals(method === 'HEAD' ? Buffer.alloc(0) : expected), `${method} from ${part.start}`)
        }
      }
      assert.deepEqual(failures, [])
    })
  })
})

test('listenFast tells the length of a stream, as Content-Length or in its place', async () => {
  const handler: Handler = () => {
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(CONTENT.subarray(0, 10))
        controller.close()
      },
    })
    return new Response(body, { headers: { 'content-length': '10' } })
  }
  await withFastListener(handler, async (listener) => {
    const { headers, ...response } = await fetch(urlOf(listener)).then(async (got) => ({
      headers: got.headers,
      body: Buffer.from(await got.arrayBuffer()),
    }))
    assert.equal(headers.get('content-length') ?? headers.get('x-swarmirror-length'), '10')
    assert.deepEqual(response.body, CONTENT.subarray(0, 10))
  })
})

test('listenFast answers 500 and tells why when the handler throws, or the file is gone', async () => {
  await withTemporaryDirectory(async (dir) => {
    const path = join(dir, 'blob')
    await writeFile(path, CONTENT)
    await rm(path)
    const handlers: [Handler, RegExp][] = [
      [() => Promise.reject(new Error('a bug')), /a bug/],
      [
        () => fileResponse({ path, start: 0, length: 10 }, { headers: { 'content-length': '10' } }),
        /ENOENT|no such file/i,
      ],
    ]
    for (const [handler, said] of handlers) {
      await withFastListener(handler, async (listener, failures) => {
        const response = await fetch(urlOf(listener))
        assert.equal(response.status, 500)
        assert.match(await response.text(), /internal error/)
        await waitFor('the failure is told', () => failures.length === 1)
        assert.match(String(failures[0]), said)
      })
    }
  })
})

test('listenFast refuses a request of which no URL can be made, before the handler sees it', async () => {
  const asked: string[] = []
  const handler: Handler = ({ url }) => {
    asked.push(url)
    return new Response(new URL(url).pathname, { headers: { 'content-length': '1' } })
  }
  await withFastListener(handler, async ({ port }, failures) => {
    for (const request of [
      'GET / HTTP/1.0\r\n\r\n',
      'GET / HTTP/1.1\r\nHost:\r\n\r\n',
      'GET / HTTP/1.1\r\nHost: a b\r\n\r\n',
    ]) {
      const response = await exchange(port, request)
      assert.equal(response.status, 400, JSON.stringify(request))
    }
    assert.deepEqual(asked, [])
    assert.deepEqual(failures, [])
    assert.equal((await exchange(port, requestText('GET', '/'))).status, 200)
  })
})

test('listenFast close lets a running exchange finish, or cuts and counts it when the signal aborts', async () => {
  for (const drained of [true, false]) {
    const finish = Promise.withResolvers<void>()
    const handler: Handler = () => {
      let pulls = 0
      const body = new ReadableStream({
        async pull(controller) {
          if (pulls++ > 0) await finish.promise
          controller.enqueue(CONTENT.subarray(0, 1_000))
          if (pulls === 2) controller.close()
        },
      })
      return new Response(body)
    }
    const listener = await listenFast(handler, { host: '127.0.0.1', port: 0, onError: () => undefined })
    const client = await RawClient.connect(listener.port)
    client.send(requestText('GET', '/'))
    await waitFor('the body begins', () => (parseResponse(client.received)?.body.length ?? 0) >= 1_000)
    const drain = new AbortController()
    const closing = listener.close(drain.signal)
    if (drained) finish.resolve()
    else drain.abort()
    assert.equal(await within('the end of the listener', closing), drained ? 0 : 1)
    await client.ended()
    assert.equal((parseResponse(client.received)?.body.length ?? 0) >= 2_000, drained)
    finish.resolve()
    await assert.rejects(RawClient.connect(listener.port), { code: 'ECONNREFUSED' })
  }
})

test('listenFast says which address is in use', async () => {
  const handler: Handler = () => new Response(null)
  await withFastListener(handler, async ({ port }) => {
    await assert.rejects(listenFast(handler, { host: '127.0.0.1', port, onError: () => undefined }), {
      code: 'EADDRINUSE',
    })
  })
})
