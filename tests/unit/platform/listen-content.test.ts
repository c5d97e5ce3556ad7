import assert from 'node:assert/strict'
import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { sourceResponse } from '../../../lib/platform/byte-source.ts'
import { FileSource } from '../../../lib/platform/file-source.ts'
import { listen } from '../../../lib/platform/listen.ts'
import type { Handler, Listener } from '../../../lib/platform/listener.ts'
import { parseResponse, RawClient, requestText } from '../../fixtures/http.ts'
import { withTemporaryDirectory } from '../../fixtures/image.ts'
import { withListener } from '../../fixtures/listen.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

const CONTENT = Buffer.from(new Uint32Array(500_000).map((_, index) => Math.imul(index, 0x9e3779b1)).buffer)

const urlOf = ({ port }: Listener) => `http://127.0.0.1:${port}/`

test('listen sends files and parts of them, exactly, and HEAD with their length', async () => {
  await withTemporaryDirectory(async (dir) => {
    const path = join(dir, 'blob')
    await writeFile(path, CONTENT)
    let part = { start: 0, length: CONTENT.length }
    const handler: Handler = ({ method }) => {
      const headers = { 'content-length': String(part.length), 'content-type': 'application/x', etag: '"x"' }
      const init = { status: part.start === 0 ? 200 : 206, headers }
      return method === 'HEAD' ? new Response(null, init) : sourceResponse(new FileSource({ path, ...part }), init)
    }
    await withListener(handler, async (listener, failures) => {
      for (part of [part, { start: 7, length: 1_000_000 }, { start: CONTENT.length - 1, length: 1 }]) {
        for (const method of ['GET', 'HEAD']) {
          // The server must not apply the Range again: it sends exactly the handler's body.
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

test('listen tells the length of a stream, as Content-Length or in its place', async () => {
  const handler: Handler = () => {
    const body = new ReadableStream({
      start(controller) {
        controller.enqueue(CONTENT.subarray(0, 10))
        controller.close()
      },
    })
    return new Response(body, { headers: { 'content-length': '10' } })
  }
  await withListener(handler, async (listener) => {
    const { headers, ...response } = await fetch(urlOf(listener)).then(async (got) => ({
      headers: got.headers,
      body: Buffer.from(await got.arrayBuffer()),
    }))
    assert.equal(headers.get('content-length') ?? headers.get('x-swarmirror-length'), '10')
    assert.deepEqual(response.body, CONTENT.subarray(0, 10))
  })
})

test('listen answers 500 and tells why when the handler throws, or the file is gone', async () => {
  await withTemporaryDirectory(async (dir) => {
    const path = join(dir, 'blob')
    await writeFile(path, CONTENT)
    await rm(path)
    const handlers: [Handler, RegExp][] = [
      [() => Promise.reject(new Error('a bug')), /a bug/],
      [
        () => sourceResponse(new FileSource({ path, start: 0, length: 10 }), { headers: { 'content-length': '10' } }),
        /ENOENT|no such file/i,
      ],
    ]
    for (const [handler, said] of handlers) {
      await withListener(handler, async (listener, failures) => {
        const response = await fetch(urlOf(listener))
        assert.equal(response.status, 500)
        assert.match(await response.text(), /internal error/)
        await waitFor('the failure is told', () => failures.length === 1)
        assert.match(String(failures[0]?.error), said)
      })
    }
  })
})

test('listen close lets a running exchange finish, or cuts and counts it when the signal aborts', async () => {
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
    const listener = await listen(handler, { host: '127.0.0.1', port: 0, onError: () => undefined })
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
