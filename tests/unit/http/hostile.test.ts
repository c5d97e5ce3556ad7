import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { silentLogger } from '../../../lib/observe/log.ts'
import { openLayoutStore } from '../../../lib/store/layout/layout.ts'
import { withDoors } from '../../fixtures/door.ts'
import { exchange, parseResponse, requestText, withRawClient } from '../../fixtures/http.ts'
import { makeImage, withTemporaryDirectory, writeLayout } from '../../fixtures/image.ts'
import type { LogLine } from '../../fixtures/log.ts'

const SECRET = 'the content of a file outside of the store'
const image = makeImage({ layers: 1 })
const { digest } = image.target
const HEX = digest.slice('sha256:'.length)

/** A registry door over a layout, with private files beside the layout and in it. */
async function withTemptingDoor(use: (port: number, lines: readonly LogLine[]) => Promise<void>): Promise<void> {
  await withTemporaryDirectory(async (dir) => {
    const layout = join(dir, 'layout')
    await writeLayout(layout, [{ image, names: ['registry.example/team/app:1'] }])
    for (const path of ['secret', 'layout/secret', 'layout/blobs/secret', 'layout/blobs/sha256/secret']) {
      await mkdir(join(dir, path, '..'), { recursive: true })
      await writeFile(join(dir, path), SECRET)
    }
    const store = await openLayoutStore(layout, { log: silentLogger })
    try {
      await withDoors({ store }, async ({ listen, lines }) => await use((await listen()).port, lines))
    } finally {
      await store.close()
    }
  })
}

const long = (count: number) => 'a'.repeat(count)

const HOSTILE_TARGETS = [
  // Paths out of the store: plain, encoded once or twice, and with other separators.
  '/v2/team/app/blobs/sha256:../../../secret',
  '/v2/team/app/blobs/sha256:../secret',
  '/v2/team/app/blobs/../../secret',
  '/v2/../../secret',
  '/../secret',
  '/v2/team/app/blobs/sha256:..%2f..%2f..%2fsecret',
  '/v2/team/app/blobs/sha256%3a..%2fsecret',
  '/v2/team/app/blobs/%2e%2e/%2e%2e/secret',
  '/v2/team/app/blobs/%2e%2e%2f%2e%2e%2fsecret',
  '/v2/team/app/blobs/%252e%252e%252fsecret',
  '/v2/team/app/blobs/..%5c..%5csecret',
  '/v2/team/app/blobs/..\\..\\secret',
  '/v2/team/app/blobs/sha256:secret',
  '/v2/team/app/blobs/sha256:%00',
  `/v2/team/app/blobs/${digest}%00`,
  `/v2/team/app/blobs/${digest}/`,
  `/v2/team/app/blobs/${digest}/..`,
  `/v2/team/app/blobs/sha256:${HEX.toUpperCase()}`,
  `/v2/team/app/blobs/md5:${HEX.slice(0, 32)}`,
  `/v2/team/app/blobs/sha256:${HEX}0`,
  // Encoded slashes and dots, in paths whose plain form would be served.
  `/v2/team%2fapp/manifests/${digest}?ns=registry.example`,
  `/v2/team%2Fapp/manifests/1?ns=registry.example`,
  `/v2%2fteam/app/manifests/1?ns=registry.example`,
  `/v2/x/../team/app/manifests/1?ns=registry.example`,
  `/v2/./team/app/manifests/1?ns=registry.example`,
  `/v2/%2e/team/app/manifests/1?ns=registry.example`,
  `/v2/team/%61pp/manifests/1?ns=registry.example`,
  '/v2//team/app/manifests/1?ns=registry.example',
  '/v2/team//app/manifests/1?ns=registry.example',
  '//v2/team/app/manifests/1?ns=registry.example',
  // Names and tags beyond the grammar and the limits.
  '/v2/Team/app/manifests/1',
  '/v2/team/app/manifests/',
  '/v2/team/app/manifests/.hidden',
  `/v2/team/app/manifests/${long(129)}`,
  `/v2/${long(256)}/manifests/1`,
  `/v2/${long(8_000)}/manifests/1`,
  `/v2/team/app/blobs/sha256:${long(8_000)}`,
  `/v2/${'a/'.repeat(4_000)}manifests/1`,
  `/v2/team/app/manifests/1?ns=${long(8_000)}`,
  '/v2/team/app/manifests/1?ns=http://registry.example',
  '/v2/team/app/manifests/1?ns=registry.example/..',
  '/v2/team/app/manifests/1?ns=%ff%fe',
  // Targets that are no paths.
  '*',
  'team/app',
  'http://registry.example/v2/',
  '/v2/caf\u00e9/manifests/1',
]

test('doors answer every hostile path with a 4xx, and log nothing', async () => {
  await withTemptingDoor(async (port, lines) => {
    for (const target of HOSTILE_TARGETS) {
      for (const method of ['GET', 'HEAD']) {
        const response = await exchange(port, requestText(method, target, { Connection: 'close' }))
        const shown = `${method} ${target.slice(0, 80)}`
        assert.ok(response.status >= 400 && response.status < 500, `${shown}: ${response.status}`)
        assert.ok(!response.body.includes(SECRET), shown)
      }
    }
    assert.deepEqual(lines, [])
  })
})

test('doors serve the plain form of what they refuse when it is hidden', async () => {
  await withTemptingDoor(async (port) => {
    for (const target of [
      '/v2/team/app/manifests/1?ns=registry.example',
      `/v2/team/app/manifests/${digest}?ns=registry.example`,
      '/v2/registry.example/team/app/manifests/1',
    ]) {
      const response = await exchange(port, requestText('GET', target, { Connection: 'close' }))
      assert.equal(response.status, 200, target)
    }
  })
})

test('doors answer the longest paths at once, whatever they repeat', async () => {
  await withTemptingDoor(async (port) => {
    const start = performance.now()
    for (const part of ['a/', 'a/manifests/', 'a/blobs/', 'manifests/', 'tags/list/', 'a%2f', '/']) {
      for (const end of ['', 'manifests/1', `blobs/${digest}`]) {
        const path = `/v2/${part.repeat(15_000 / part.length)}${end}`
        const { status } = await exchange(port, requestText('GET', path, { Connection: 'close' }))
        assert.ok(status >= 400 && status < 500, `${part} ${end}: ${status}`)
      }
    }
    // A router that backtracks takes a second for each of them; all together they take some hundredths of a second.
    assert.ok(performance.now() - start < 10_000)
  })
})

test('doors answer requests with absurd headers as usual', async () => {
  await withTemptingDoor(async (port, lines) => {
    const target = `/v2/team/app/manifests/${digest}?ns=registry.example`
    for (const [name, value] of [
      ['Range', 'bytes=99999999999999999999-'],
      ['Range', `bytes=${'0-1,'.repeat(1_000)}`],
      ['Range', `bytes=-${'9'.repeat(400)}`],
      ['If-Range', '"'.repeat(1_000)],
      ['If-None-Match', ','.repeat(5_000)],
      ['Accept', 'x'.repeat(10_000)],
      ['Accept', 'text/html;q=2,,;;'],
      ['Content-Length', '5'],
      ['X-Forwarded-Host', '../../secret'],
      ['Cookie', '\u00ff\u00fe'],
      ['Upgrade', 'websocket'],
    ] satisfies [string, string][]) {
      const response = await exchange(port, requestText('GET', target, { [name]: value, Connection: 'close' }))
      assert.ok(response.status < 500, `${name}: ${value.slice(0, 40)}: ${response.status}`)
    }
    for (const headers of [{ Host: '../..' }, { Host: 'a b' }, { Host: 'a@b' }, { Host: 'a/../b' }]) {
      const response = await exchange(port, requestText('GET', target, { ...headers, Connection: 'close' }))
      assert.ok(response.status >= 400 && response.status < 500, `Host ${headers.Host}: ${response.status}`)
    }
    const large = await exchange(port, requestText('GET', target, { 'X-Large': 'x'.repeat(20_000) }))
    assert.equal(large.status, 431)
    assert.deepEqual(lines, [])
  })
})

test('doors answer anything else with a 4xx or not at all', async () => {
  await withTemptingDoor(async (port, lines) => {
    for (const text of [
      'GET /v2/ HTTP/9.9\r\nHost: x\r\n\r\n',
      'GET /v2/\u0000x HTTP/1.1\r\nHost: x\r\n\r\n',
      'BREW /v2/ HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET /v2/ HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
      'CONNECT registry.example:443 HTTP/1.1\r\nHost: x\r\n\r\n',
      '\u0016\u0003\u0001\u0002\u0000\u0001\u0000\u0001\u00fc\u0003\u0003\r\n\r\n',
    ]) {
      await withRawClient(port, async (client) => {
        client.send(Buffer.from(text, 'latin1'))
        client.socket.end()
        await client.ended()
        const status = parseResponse(client.received)?.status ?? 400
        assert.ok(status >= 400 && status < 500, `${JSON.stringify(text.slice(0, 40))}: ${status}`)
      })
    }
    assert.deepEqual(lines, [])
  })
})

test('doors answer TRACE and pushes with 405 over a socket, bodies and all', async () => {
  await withTemptingDoor(async (port, lines) => {
    for (const method of ['TRACE', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']) {
      await withRawClient(port, async (client) => {
        for (const body of ['', 'x'.repeat(100_000)]) {
          const length = method === 'TRACE' ? {} : { 'Content-Length': String(body.length) }
          client.send(requestText(method, '/v2/team/app/blobs/uploads/', length) + (method === 'TRACE' ? '' : body))
          const response = await client.response()
          // No standard Request can be made of TRACE.
          if (method === 'TRACE' && response.status === 400) return
          assert.equal(response.status, 405, method)
          assert.equal(response.headers.allow, 'GET, HEAD')
          // With Bun's own sockets, a request with a body is the last one.
          if (response.headers.connection === 'close') return
        }
      })
    }
    assert.deepEqual(lines, [])
  })
})

/** Pieces for paths that are valid, or nearly valid. */
const piece = fc.oneof(
  { weight: 3, arbitrary: fc.constantFrom('v2', 'team', 'app', 'manifests', 'blobs', 'uploads', 'tags', 'list', '1') },
  { weight: 2, arbitrary: fc.constantFrom('..', '.', '', '%2e%2e', '%2f', '%00', '\\', 'secret', digest, 'sha256:') },
  { weight: 1, arbitrary: fc.string({ unit: 'binary-ascii', maxLength: 12 }) },
)
const target = fc
  .tuple(
    fc.constantFrom('/v2/', '/', ''),
    fc.array(piece, { maxLength: 8 }),
    fc.constantFrom('', '?ns=registry.example', '?ns='),
  )
  .map(([start, pieces, query]) => `${start}${pieces.join('/')}${query}`)
const requestLine = fc.oneof(
  target.map((path) => `GET ${path} HTTP/1.1`),
  fc
    .tuple(fc.constantFrom('GET', 'HEAD', 'PUT', 'get', 'M-SEARCH'), target)
    .map(([method, path]) => `${method} ${path} HTTP/1.1`),
  fc.string({ unit: 'binary-ascii', maxLength: 60 }),
)

test('doors answer any request line without a 5xx, and never with content from outside of the store', async () => {
  await withTemptingDoor(async (port, lines) => {
    await fc.assert(
      fc.asyncProperty(requestLine, async (line) => {
        await withRawClient(port, async (client) => {
          client.send(Buffer.from(`${line}\r\nHost: x\r\nConnection: close\r\n\r\n`, 'latin1'))
          // Random bytes may leave the server waiting for more, which never come.
          client.socket.end()
          await client.ended()
          const { received } = client
          assert.ok(!received.includes(SECRET))
          // A connection may end without an answer: a line of white space is no request.
          const status = parseResponse(received)?.status
          assert.ok(status === undefined || status < 500, `${status}`)
        })
      }),
      { numRuns: 200 },
    )
    assert.deepEqual(
      lines.filter(({ level }) => level !== 'debug'),
      [],
    )
  })
})
