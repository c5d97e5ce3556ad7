/** Requests that neither a handler nor the log sees, over raw sockets. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { listen } from '../../../lib/platform/listen.ts'
import { exchange, requestText } from '../../fixtures/http.ts'
import { within } from '../../fixtures/wait.ts'

/** Invalid Host headers, Host headers that make no URL, and an invalid method. */
const HEADS = [
  'GET / HTTP/1.0\r\n\r\n',
  'GET / HTTP/1.1\r\n\r\n',
  'GET / HTTP/1.1\r\nHost:\r\n\r\n',
  ...['a b', 'x.1', '1.2.3.4.5', '0x7f.1.1.1.1', '[::1', '[x]', 'x:99999', 'x:y', 'a?b', 'u@b', 'a,b', '%zz'].map(
    (host) => requestText('GET', '/', { Host: host }),
  ),
  requestText('get', '/'),
  'GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n',
  'GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n',
  'GET / HTTP/1.1\r\nHost: a\r\nAccept: */*\r\nhOST: b\r\n\r\n',
]

test('listen answers 400, before any handler and without a failure, to a Host header that makes no URL', async () => {
  const asked: string[] = []
  const failures: unknown[] = []
  const listener = await listen(
    ({ url }) => {
      asked.push(url)
      return new Response(new URL(url).pathname, { headers: { 'content-length': '1' } })
    },
    { host: '127.0.0.1', port: 0, onError: (error) => failures.push(error) },
  )
  try {
    for (const head of HEADS) {
      assert.equal((await exchange(listener.port, head)).status, 400, JSON.stringify(head))
    }
    assert.deepEqual(asked, [])
    for (const host of ['mirror.example', '127.0.0.1:5000', '[::1]:5000', 'LOCALHOST']) {
      assert.equal((await exchange(listener.port, requestText('GET', '/', { Host: host }))).status, 200, host)
    }
    assert.deepEqual(failures, [])
  } finally {
    await within('the end of the listener', listener.close(AbortSignal.abort()))
  }
})
