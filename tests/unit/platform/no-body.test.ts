import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NO_BODY, sourceResponse } from '../../../lib/platform/byte-source.ts'
import { listen } from '../../../lib/platform/listen.ts'
import { requestText, withRawClient } from '../../fixtures/http.ts'
import { waitFor } from '../../fixtures/wait.ts'

test('a response without its body is a head, and then FIN, which is no failure', async () => {
  const failures: unknown[] = []
  const listener = await listen(() => sourceResponse(NO_BODY, { headers: { 'content-length': '123' } }), {
    ...{ host: '127.0.0.1', port: 0 },
    onError: (error) => failures.push(error),
  })
  try {
    await withRawClient(listener.port, async (client) => {
      client.socket.write(requestText('GET', '/'))
      await waitFor('the end', () => client.ending !== 'open')
      assert.equal(client.ending, 'fin')
      const text = client.received.toString('latin1')
      assert.match(text, /^HTTP\/1\.1 200 OK\r\n/)
      assert.match(text, /\r\ncontent-length: 123\r\n/i)
      assert.ok(text.endsWith('\r\n\r\n'))
      assert.deepEqual(failures, [])
    })
  } finally {
    await listener.close(AbortSignal.abort())
  }
})

test('any other reader of a response without its body sees it fail', async () => {
  await assert.rejects(sourceResponse(NO_BODY, {}).text(), /ends before it begins/)
})
