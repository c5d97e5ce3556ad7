import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { readRequest } from '../../../lib/platform/http-connection.ts'

const read = (text: string) => readRequest(Buffer.from(text, 'latin1'))
const token = fc.stringMatching(/^[A-Za-z][A-Za-z0-9-]{0,11}$/)

test('readRequest reads what other mirrors send', () => {
  const request = read('GET /v2/a/b?ns=x HTTP/1.1\r\nHost: a:5001\r\nX-Capability:  token \r\n\r\n')
  assert.deepEqual([request?.method, request?.target, request?.keepAlive], ['GET', '/v2/a/b?ns=x', true])
  assert.equal(request?.headers.get('x-capability'), 'token')
})

test('readRequest ends the connection after a request with a body that nobody reads, of HTTP/1.0, or that says so', () => {
  for (const head of [
    'GET / HTTP/1.0\r\nHost: a',
    'GET / HTTP/1.1\r\nHost: a\r\nConnection: x, Close',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4097',
    'POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked',
  ])
    assert.equal(read(`${head}\r\n\r\n`)?.keepAlive, false, head)
})

test('readRequest refuses requests that two servers could read differently', () => {
  for (const head of [
    'GET / HTTP/1.1',
    'GET / HTTP/1.1\r\nHost: a, b',
    'GET / HTTP/1.1\r\nHost: a\r\nHost: a',
    'GET / HTTP/1.1\r\nHost: a/b',
    'GET / HTTP/1.1\r\nHost : a',
    'GET / HTTP/1.1\r\nHost: a\r\n folded: b',
    'GET / HTTP/1.1\r\nHost: a\r\nX: b\x00',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1',
    'POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1',
    'GET  / HTTP/1.1\r\nHost: a',
    'GET http://a/ HTTP/1.1\r\nHost: a',
    'GET / HTTP/1.1 \r\nHost: a',
    'GET /\n HTTP/1.1\r\nHost: a',
    'GET / HTTP/2.0\r\nHost: a',
  ])
    assert.equal(read(`${head}\r\n\r\n`), undefined, head)
})

test('readRequest reads every well-formed request, and never throws', () => {
  const target = fc.stringMatching(/^\/[!-~]{0,40}$/)
  fc.assert(
    fc.property(token, target, fc.uniqueArray(token, { maxLength: 5 }), (method, target, names) => {
      const headers = names.map((name) => `x-${name}: v\r\n`).join('')
      const request = read(`${method} ${target} HTTP/1.1\r\nHost: a\r\n${headers}\r\n`)
      assert.deepEqual([request?.method, request?.target], [method, target])
      for (const name of names) assert.ok(request?.headers.has(`x-${name}`))
    }),
  )
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => void readRequest(bytes)))
})
