import assert from 'node:assert/strict'
import { test } from 'node:test'
import { listen } from '../../../lib/platform/listen.ts'
import type { Handler, Listener } from '../../../lib/platform/listener.ts'
import { parseResponse, RawClient, requestText } from '../../fixtures/http.ts'
import { runProgram } from '../../fixtures/process.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

const GET = requestText('GET', '/')
const HALF = new Uint8Array(1_000).fill(1)

async function open(handler: Handler): Promise<{ listener: Listener; failures: unknown[] }> {
  const failures: unknown[] = []
  const listener = await listen(handler, { host: '127.0.0.1', port: 0, onError: (error) => failures.push(error) })
  return { listener, failures }
}

/** Bodies of two halves. The second half comes when `finish` is called. */
function halves() {
  const finish = Promise.withResolvers<void>()
  const handler = () => {
    let pulls = 0
    const body = new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          if (pulls++ > 0) await finish.promise
          controller.enqueue(HALF)
          if (pulls === 2) controller.close()
        },
      },
      { highWaterMark: 0 },
    )
    return new Response(body, { headers: { 'content-length': '2000' } })
  }
  return { handler, finish: () => finish.resolve() }
}

async function startHalf(port: number): Promise<RawClient> {
  const client = await RawClient.connect(port)
  client.send(GET)
  await waitFor('the first half', () => parseResponse(client.received)?.body.length === 1_000)
  return client
}

test('listen close lets a running exchange finish, then ends its connection', async () => {
  const { handler, finish } = halves()
  const { listener, failures } = await open(handler)
  const client = await startHalf(listener.port)
  const closing = listener.close(new AbortController().signal)
  await assert.rejects(RawClient.connect(listener.port), { code: 'ECONNREFUSED' })
  assert.equal(client.ending, 'open')
  finish()
  assert.equal((await client.response()).body.length, 2_000)
  assert.equal(await within('the end of the listener', closing), 0)
  assert.equal(await client.ended(), 'fin')
  assert.deepEqual(failures, [])
})

test('listen close ends idle connections at once, while others are still busy', async () => {
  const { handler, finish } = halves()
  const { listener } = await open((request) => (request.method === 'HEAD' ? new Response(null) : handler()))
  const idle = await RawClient.connect(listener.port)
  idle.send(requestText('HEAD', '/'))
  await idle.response(true)
  const busy = await startHalf(listener.port)
  const closing = listener.close(new AbortController().signal)
  assert.equal(await idle.ended(), 'fin')
  assert.equal(busy.ending, 'open')
  finish()
  assert.equal(await within('the end of the listener', closing), 0)
  busy.close()
})

test('listen close cuts unfinished exchanges with FIN when the signal aborts, and counts them', async () => {
  const { handler } = halves()
  const { listener, failures } = await open(handler)
  const clients = [await startHalf(listener.port), await startHalf(listener.port)]
  const drain = new AbortController()
  const closing = listener.close(drain.signal)
  drain.abort()
  assert.equal(await within('the end of the listener', closing), 2)
  for (const client of clients) {
    assert.equal(await client.ended(), 'fin')
    assert.equal(parseResponse(client.received)?.body.length, 1_000)
  }
  // The mirror ended them; the content did not break off.
  assert.deepEqual(failures, [])
})

test('listen close may be called again, and while it is under way', async () => {
  const { handler } = halves()
  const { listener } = await open(handler)
  const client = await startHalf(listener.port)
  const drain = new AbortController()
  const first = listener.close(drain.signal)
  assert.equal(await within('the second close', listener.close(AbortSignal.abort())), 1)
  await within('the first close', first)
  assert.equal(await within('the third close', listener.close(AbortSignal.abort())), 0)
  client.close()
})

test('listen close does not wait for a pipelined request whose connection has ended', async () => {
  let asked = 0
  const { listener } = await open(() => {
    asked++
    return new Promise<Response>(() => undefined)
  })
  const client = await RawClient.connect(listener.port)
  client.send(`${GET}${GET}`)
  await waitFor('the request is there', () => asked > 0)
  client.close()
  const cut = listener.close(new AbortController().signal)
  assert.equal(await within('the end of the listener', cut), 0)
})

test('listen leaves nothing open: a process that has closed its listener ends by itself', async () => {
  const program = new URL('../../fixtures/listen-and-close.ts', import.meta.url)
  const { code, stdout, stderr } = await runProgram(program, [])
  assert.equal(stderr, '')
  const { at, ...told } = JSON.parse(stdout)
  assert.deepEqual(told, { status: 200, refused: 400, cut: 1 })
  assert.equal(code, 0)
  // A forgotten connection would end after 30 s.
  assert.ok(Date.now() - at < 20_000, `${Date.now() - at} ms`)
})
