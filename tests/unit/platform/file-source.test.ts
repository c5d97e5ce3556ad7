import assert from 'node:assert/strict'
import { rm, truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { sourceResponse } from '../../../lib/platform/byte-source.ts'
import { type FilePart, FileSource } from '../../../lib/platform/file-source.ts'
import { listen } from '../../../lib/platform/listen.ts'
import { parseResponse, type RawClient, requestText, withRawClient } from '../../fixtures/http.ts'
import { withTemporaryDirectory } from '../../fixtures/image.ts'
import { waitFor } from '../../fixtures/wait.ts'

const GET = requestText('GET', '/')

/** No two offsets have the same bytes, so that misplaced bytes are noticed. */
function pattern(length: number): Buffer {
  const words = new Uint32Array(Math.ceil(length / 4))
  for (let index = 0; index < words.length; index++) words[index] = Math.imul(index + 1, 0x9e3779b1)
  return Buffer.from(words.buffer, 0, length)
}

/** Serves parts of one file, and closes everything afterwards. */
async function withFile(
  content: Buffer,
  partOf: (path: string) => FilePart,
  use: (port: number, path: string, failures: readonly unknown[]) => Promise<void>,
): Promise<void> {
  await withTemporaryDirectory(async (dir) => {
    const path = join(dir, 'blob')
    await writeFile(path, content)
    const failures: unknown[] = []
    const handler = () => {
      const part = partOf(path)
      return sourceResponse(new FileSource(part), { headers: { 'content-length': String(part.length) } })
    }
    const listener = await listen(handler, { host: '127.0.0.1', port: 0, onError: (error) => failures.push(error) })
    try {
      await use(listener.port, path, failures)
    } finally {
      await listener.close(AbortSignal.abort())
    }
  })
}

async function get(client: RawClient): Promise<Buffer> {
  client.send(GET)
  return (await client.response()).body
}

const CONTENT = pattern(5_000_003)

test('FileSource sends exactly its part, one after another on one connection', async () => {
  const parts = [
    { start: 0, length: CONTENT.length },
    { start: 0, length: 1 },
    { start: CONTENT.length - 1, length: 1 },
    { start: 262_143, length: 262_146 },
    { start: 1_000_001, length: 3_000_001 },
  ]
  let next = 0
  await withFile(
    CONTENT,
    (path) => ({ path, ...(parts[next++] ?? assert.fail('asked too often')) }),
    async (port, _, failures) => {
      await withRawClient(port, async (client) => {
        for (const { start, length } of parts) {
          const body = await get(client)
          assert.ok(body.equals(CONTENT.subarray(start, start + length)), `${length} bytes from ${start}`)
        }
      })
      assert.deepEqual(failures, [])
    },
  )
})

test('FileSource sends an empty file', async () => {
  await withFile(
    Buffer.alloc(0),
    (path) => ({ path, start: 0, length: 0 }),
    async (port) => {
      await withRawClient(port, async (client) => {
        assert.equal((await get(client)).length, 0)
        assert.equal((await get(client)).length, 0)
      })
    },
  )
})

test('FileSource sends the right bytes to a client that reads slowly', async () => {
  const content = pattern(24_000_001)
  await withFile(
    content,
    (path) => ({ path, start: 0, length: content.length }),
    async (port) => {
      await withRawClient(port, async (client) => {
        let seen = 0
        client.socket.on('data', (chunk: Buffer) => {
          seen += chunk.length
          // Pauses the stream repeatedly, so that the writer has to wait.
          if (Math.floor(seen / 2_000_000) > Math.floor((seen - chunk.length) / 2_000_000)) {
            client.socket.pause()
            setTimeout(() => client.socket.resume(), 20)
          }
        })
        assert.ok((await get(client)).equals(content))
      })
    },
  )
})

test('FileSource lets others have their turn while it reads', async () => {
  await withTemporaryDirectory(async (dir) => {
    const path = join(dir, 'blob')
    await writeFile(path, pattern(16_000_000))
    const source = new FileSource({ path, start: 0, length: 16_000_000 })
    let turns = 0
    let turn = setImmediate(function next() {
      turns++
      turn = setImmediate(next)
    })
    let chunks = 0
    while ((await source.next()) !== undefined) chunks++
    clearImmediate(turn)
    assert.ok(chunks > 32 && turns >= chunks / 8, `${turns} turns in ${chunks} chunks`)
  })
})

test('FileSource becomes a 500 when the file is gone', async () => {
  await withFile(
    CONTENT,
    (path) => ({ path, start: 0, length: CONTENT.length }),
    async (port, path, failures) => {
      await rm(path)
      await withRawClient(port, async (client) => {
        client.send(GET)
        assert.equal((await client.response()).status, 500)
      })
      assert.equal((failures[0] as NodeJS.ErrnoException).code, 'ENOENT')
    },
  )
})

test('FileSource goes on when the file is unlinked while it is being sent', async () => {
  const content = pattern(24_000_001)
  await withFile(
    content,
    (path) => ({ path, start: 0, length: content.length }),
    async (port, path) => {
      await withRawClient(port, async (client) => {
        client.socket.pause()
        client.send(GET)
        client.socket.once('data', () => client.socket.pause())
        client.socket.resume()
        await waitFor('the body begins', () => client.received.length > 0)
        await rm(path)
        client.socket.resume()
        assert.ok((await client.response()).body.equals(content))
      })
    },
  )
})

test('FileSource ends with FIN when the file becomes shorter while it is being sent', async () => {
  const content = pattern(64_000_000)
  await withFile(
    content,
    (path) => ({ path, start: 0, length: content.length }),
    async (port, path, failures) => {
      await withRawClient(port, async (client) => {
        client.send(GET)
        client.socket.once('data', () => client.socket.pause())
        await waitFor('the body begins', () => client.received.length > 0)
        await truncate(path, 1_000)
        client.socket.resume()
        assert.equal(await client.ended(), 'fin')
        const body = parseResponse(client.received)?.body ?? assert.fail('no response')
        assert.ok(body.length < content.length)
        assert.ok(body.equals(content.subarray(0, body.length)))
      })
      await waitFor('the failure is told', () => failures.length === 1)
      assert.match(String(failures[0]), /the body broke off after \d+ of 64000000 bytes/)
    },
  )
})

test('FileSource makes a Response that anything can read, or cancel before and after its first byte', async () => {
  await withTemporaryDirectory(async (dir) => {
    const path = join(dir, 'blob')
    await writeFile(path, CONTENT)
    const make = () =>
      sourceResponse(new FileSource({ path, start: 3, length: 4_000_000 }), { status: 206, headers: { etag: '"x"' } })
    const response = make()
    assert.equal(response.status, 206)
    assert.equal(response.headers.get('etag'), '"x"')
    assert.ok(Buffer.from(await response.arrayBuffer()).equals(CONTENT.subarray(3, 4_000_003)))

    await make().body?.cancel()
    const reader = make().body?.getReader() ?? assert.fail('no body')
    assert.equal((await reader.read()).done, false)
    await reader.cancel()
    assert.equal((await reader.read()).done, true)
  })
})
