import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { formatRequest, headOf } from '../../../../lib/peers/http1/head.ts'
import { ProtocolError } from '../../../../lib/platform/http-head.ts'

const bytesOf = (text: string) => new Uint8Array(Buffer.from(text, 'latin1'))

/** Looks for the head after each of these places, as a connection does. */
function readHead(bytes: Uint8Array, places: readonly number[] = [], method: 'GET' | 'HEAD' = 'GET') {
  const ends = [...new Set(places.map((place) => place % (bytes.length + 1)))].sort((a, b) => a - b)
  for (const end of [...ends, bytes.length]) {
    const found = headOf(bytes.subarray(0, end), method)
    if (found !== undefined)
      return { ...found, rest: Buffer.concat([found.rest, bytes.subarray(end)]).toString('latin1') }
  }
  return undefined
}

const read = (text: string, method: 'GET' | 'HEAD' = 'GET') => readHead(bytesOf(text), [], method)
const OK = 'HTTP/1.1 200 OK\r\n'

test('headOf gives status, headers and what follows, wherever the bytes are cut', () => {
  const text = `${OK}Content-Length: 5\r\nX-Many: a\r\nX-Many: b\r\nX-Blank: \t v w\t\r\nX-Empty:\r\n\r\nhello`
  fc.assert(
    fc.property(fc.array(fc.nat(), { maxLength: 12 }), (places) => {
      const { head, rest } = readHead(bytesOf(text), places) ?? assert.fail('no head')
      assert.equal(head.status, 200)
      assert.deepEqual(Object.fromEntries(head.headers), {
        'content-length': '5',
        'x-blank': 'v w',
        'x-empty': '',
        'x-many': 'a, b',
      })
      assert.deepEqual(head.length, 5)
      assert.equal(head.keepAlive, true)
      assert.equal(rest, 'hello')
    }),
  )
})

test('headOf knows how the end of a body is known', () => {
  for (const [lines, method, length] of [
    ['Content-Length: 0', 'GET', 0],
    ['Content-Length: 9007199254740991', 'GET', Number.MAX_SAFE_INTEGER],
    ['Content-Length: 5', 'HEAD', 0],
    ['X-Any: thing', 'HEAD', 0],
  ] as const) {
    assert.deepEqual(read(`${OK}${lines}\r\n\r\n`, method)?.head.length, length, `${method} ${lines}`)
  }
  for (const status of ['204 No Content', '304 Not Modified']) {
    const found = read(`HTTP/1.1 ${status}\r\nContent-Length: 5\r\n\r\n`)
    assert.deepEqual(found?.head.length, 0, status)
  }
})

test('headOf says whether the connection may be used again', () => {
  for (const [lines, keepAlive] of [
    ['Content-Length: 1', true],
    ['Content-Length: 1\r\nConnection: keep-alive', true],
    ['Content-Length: 1\r\nConnection: close', false],
    ['Content-Length: 1\r\nConnection: x, Close', false],
  ] as const) {
    assert.equal(read(`${OK}${lines}\r\n\r\n`)?.head.keepAlive, keepAlive, lines)
  }
})

test('headOf takes no answers before the answer, which no door sends', () => {
  for (const status of ['100 Continue', '101 Switching Protocols', '103 Early Hints'])
    assert.throws(() => read(`HTTP/1.1 ${status}\r\n\r\n${OK}Content-Length: 1\r\n\r\nx`), ProtocolError)
})

test('headOf refuses what could be read in two ways, or is not HTTP/1.1', () => {
  for (const text of [
    `${OK}X-Any: thing\r\n\r\n`,
    `${OK}Transfer-Encoding: chunked\r\n\r\n`,
    'HTTP/1.0 200 OK\r\n\r\n',
    'HTTP/2 200\r\n\r\n',
    'http/1.1 200 OK\r\n\r\n',
    'HTTP/1.1 20 OK\r\n\r\n',
    'HTTP/1.1 2000 OK\r\n\r\n',
    'HTTP/1.1 600 OK\r\n\r\n',
    'HTTP/1.1  200 OK\r\n\r\n',
    'HTTP/1.1 200OK\r\n\r\n',
    '\r\nHTTP/1.1 200 OK\r\n\r\n',
    'SSH-2.0-OpenSSH_9.2\r\n\r\n',
    `${OK}Content-Length: 5\r\nContent-Length: 5\r\n\r\n`,
    `${OK}Content-Length: 5\r\ncontent-length: 6\r\n\r\n`,
    `${OK}Content-Length: 5, 5\r\n\r\n`,
    `${OK}Content-Length: -5\r\n\r\n`,
    `${OK}Content-Length: +5\r\n\r\n`,
    `${OK}Content-Length: 0x5\r\n\r\n`,
    `${OK}Content-Length: 5.0\r\n\r\n`,
    `${OK}Content-Length: 1e3\r\n\r\n`,
    `${OK}Content-Length: 5 5\r\n\r\n`,
    `${OK}Content-Length:\r\n\r\n`,
    `${OK}Content-Length: 9007199254740992\r\n\r\n`,
    `${OK}Content-Length: 99999999999999999999\r\n\r\n`,
    `${OK}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n`,
    `${OK}Transfer-Encoding: gzip, chunked\r\n\r\n`,
    `${OK}Transfer-Encoding: identity\r\n\r\n`,
    `${OK}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n`,
    `${OK}X-Folded: a\r\n b\r\n\r\n`,
    `${OK} X-Blank: before\r\n\r\n`,
    `${OK}X-Blank : after\r\n\r\n`,
    `${OK}X-No-Colon\r\n\r\n`,
    `${OK}: no name\r\n\r\n`,
    `${OK}X-Name(x): y\r\n\r\n`,
    `${OK}X-Zero: a\0b\r\n\r\n`,
    `${OK}X-Bare: a\rb\r\n\r\n`,
    `${OK}X-Bare: a\nX-Other: b\r\n\r\n`,
    `HTTP/1.1 200 O\nK\r\n\r\n`,
  ]) {
    assert.throws(() => read(text), ProtocolError, JSON.stringify(text))
  }
})

test('headOf bounds the length of a head and the number of its headers, complete or not', () => {
  const headers = (count: number) => Array.from({ length: count }, (_, index) => `X-${index}: y\r\n`).join('')
  assert.equal(read(`${OK}${headers(99)}Content-Length: 0\r\n\r\n`)?.head.status, 200)
  assert.throws(() => read(`${OK}${headers(101)}\r\n`), ProtocolError)
  const long = (length: number) => `${OK}X: ${'y'.repeat(length)}`
  assert.equal(read(`${long(16_000)}\r\nContent-Length: 0\r\n\r\n`)?.head.status, 200)
  assert.throws(() => read(`${long(17_000)}\r\n\r\n`), ProtocolError)
  assert.throws(() => read(long(17_000)), ProtocolError)
  assert.equal(read(long(16_000)), undefined)
  // A body may follow at once.
  assert.equal(read(`${OK}Content-Length: 50000\r\n\r\n${'z'.repeat(50_000)}`)?.rest.length, 50_000)
})

test('headOf gives a head, asks for more or refuses whatever it is given', () => {
  const piece = fc.oneof(
    fc.constantFrom(
      'HTTP/1.1 ',
      '200',
      ' OK',
      '\r\n',
      '\r',
      '\n',
      ':',
      ' ',
      'Content-Length',
      'chunked',
      'Transfer-Encoding',
      '5',
      '\0',
    ),
    fc.string({ maxLength: 6 }),
  )
  const text = fc.array(piece, { maxLength: 20 }).map((pieces) => bytesOf(pieces.join('')))
  fc.assert(
    fc.property(
      fc.oneof(text, fc.uint8Array({ maxLength: 200 })),
      fc.array(fc.nat(), { maxLength: 5 }),
      (bytes, places) => {
        const outcome = (cuts: readonly number[]) => {
          try {
            const found = readHead(bytes, cuts)
            return found && { ...found, head: { ...found.head, headers: [...found.head.headers] } }
          } catch (error) {
            assert.ok(error instanceof ProtocolError, String(error))
            return 'refused'
          }
        }
        // The same however it is cut.
        assert.deepEqual(outcome(places), outcome([]))
      },
    ),
    { numRuns: 500 },
  )
})

const PEER = { host: '10.0.0.1', port: 5001 }
const CALL = { method: 'GET', path: '/v2/?ns=x', headers: {} } as const

test('formatRequest writes a request line, the host and the headers', () => {
  const text = formatRequest(PEER, { ...CALL, headers: { range: 'bytes=1-', authorization: 'Bearer x.y' } })
  assert.equal(
    text,
    'GET /v2/?ns=x HTTP/1.1\r\nHost: 10.0.0.1:5001\r\nrange: bytes=1-\r\nauthorization: Bearer x.y\r\n\r\n',
  )
  assert.match(formatRequest({ ...PEER, host: 'fd00::1' }, CALL), /\r\nHost: \[fd00::1\]:5001\r\n/)
})

test('formatRequest sends nothing that would be more than one request with these headers', () => {
  for (const wrong of [
    { path: '' },
    { path: 'v2' },
    { path: '/a b' },
    { path: '/a\r\nX: y' },
    { path: '/ä' },
    { headers: { 'a b': 'c' } },
    { headers: { 'a:': 'c' } },
    { headers: { a: 'b\r\nc: d' } },
    { headers: { a: 'b\nc' } },
    { headers: { a: 'b\0' } },
    { headers: { '': 'b' } },
  ]) {
    assert.throws(() => formatRequest(PEER, { ...CALL, ...wrong }), TypeError, JSON.stringify(wrong))
  }
  assert.throws(() => formatRequest({ ...PEER, host: 'a\r\nX: y' }, CALL), TypeError)
  const part = fc.record({ path: fc.string(), name: fc.string(), value: fc.string() })
  fc.assert(
    fc.property(part, ({ path, name, value }) => {
      let text: string
      try {
        text = formatRequest(PEER, { ...CALL, path: `/${path}`, headers: { [name]: value } })
      } catch (error) {
        assert.ok(error instanceof TypeError)
        return
      }
      assert.equal(text, `GET /${path} HTTP/1.1\r\nHost: 10.0.0.1:5001\r\n${name}: ${value}\r\n\r\n`)
      assert.equal(text.split(/\r|\n/).length, 9)
    }),
  )
})
