import assert from 'node:assert/strict'
import { test } from 'node:test'
import { NO_BODY, sourceResponse } from '../../../lib/platform/byte-source.ts'
import { listen } from '../../../lib/platform/listen.ts'
import { KEEP_ALIVE_TIMEOUT } from '../../../lib/platform/listener.ts'
import { requestText, withRawClient } from '../../fixtures/http.ts'
import { listenForMembers } from '../../fixtures/listen.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

for (const [door, open] of [
  ['node:http', listen],
  ['the peer door', listenForMembers],
] as const) {
  test(`a response without its body is a head, and then FIN, which is no failure: ${door}`, async () => {
    const failures: unknown[] = []
    const listener = await open(() => sourceResponse(NO_BODY, { headers: { 'content-length': '123' } }), {
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
}

for (const open of [listen, listenForMembers]) {
  test(`${open.name} ends the connection after its answer to a request with a body that does not end`, async () => {
    const handler = () => new Response('fine', { headers: { 'content-length': '4' } })
    const listener = await open(handler, { host: '127.0.0.1', port: 0, onError: assert.fail })
    try {
      for (const method of ['GET', 'POST'])
        for (const length of [{ 'Content-Length': '1000000' }, { 'Transfer-Encoding': 'chunked' }])
          await withRawClient(listener.port, async (client) => {
            client.send(`${requestText(method, '/', length)}1\r\nx\r\n`)
            assert.equal((await client.response()).body.toString(), 'fine')
            // An idle connection ends too, but later.
            assert.equal(await within('the end', client.ended(), KEEP_ALIVE_TIMEOUT / 2), 'fin')
          })
      await withRawClient(listener.port, async (client) => {
        for (const length of [{}, { 'Content-Length': '0' }]) {
          client.send(requestText('GET', '/', length))
          assert.equal((await client.response()).headers.connection ?? 'keep-alive', 'keep-alive')
        }
      })
    } finally {
      await listener.close(AbortSignal.abort())
    }
  })
}

test('any other reader of a response without its body sees it fail', async () => {
  await assert.rejects(sourceResponse(NO_BODY, {}).text(), /ends before it begins/)
})
