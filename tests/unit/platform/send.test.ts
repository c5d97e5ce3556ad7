import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type ByteSource, NO_BODY, sourceResponse } from '../../../lib/platform/byte-source.ts'
import { Client, type Wire } from '../../../lib/platform/client.ts'
import { listen } from '../../../lib/platform/listen.ts'
import type { Handler, ListenOptions } from '../../../lib/platform/listener.ts'
import { BodyError, respond } from '../../../lib/platform/send.ts'
import { sourceOf } from '../../doubles/byte-source.ts'
import { ManualClock } from '../../doubles/manual-clock.ts'
import { parseResponse, type RawClient, requestText, withRawClient } from '../../fixtures/http.ts'
import { waitFor, within } from '../../fixtures/wait.ts'

const GET = requestText('GET', '/')

/** A source that uses the same memory for all its chunks, and overwrites it as soon as it is asked for more. */
class OneBufferSource implements ByteSource {
  cancelled = false
  readonly #buffer: Uint8Array
  readonly #count: number
  #given = 0

  constructor(length: number, count: number) {
    this.#buffer = new Uint8Array(length)
    this.#count = count
  }

  get given(): number {
    return this.#given
  }

  async next(): Promise<Uint8Array | undefined> {
    this.#buffer.fill(0xee)
    if (this.#given === this.#count) return undefined
    return this.#buffer.fill(this.#given++ % 199)
  }

  async cancel(): Promise<void> {
    this.cancelled = true
  }
}

/** Runs `use` with a client that has asked for the source and does not read yet. */
async function withSlowClient(
  source: OneBufferSource,
  total: number,
  options: Partial<ListenOptions>,
  use: (client: RawClient, failures: readonly unknown[]) => Promise<void>,
): Promise<void> {
  const failures: unknown[] = []
  const handler = () => sourceResponse(source, { headers: { 'content-length': String(total) } })
  const onError = (error: unknown) => failures.push(error)
  const listener = await listen(handler, { host: '127.0.0.1', port: 0, onError, ...options })
  try {
    await withRawClient(listener.port, async (client) => {
      client.socket.pause()
      client.send(GET)
      await waitFor('the body begins', () => source.given > 0)
      await use(client, failures)
    })
  } finally {
    await within('the end of the listener', listener.close(AbortSignal.abort()))
  }
}

/** Waits until the source is asked for nothing more, because the buffers of the client and the system are full. */
async function untilStill(source: OneBufferSource): Promise<void> {
  await waitFor('the body stands still', async () => {
    const before = source.given
    await new Promise((resolve) => setTimeout(resolve, 200))
    return source.given === before
  })
}

for (const length of [1_000, 20_000, 64 * 1024, 512 * 1024]) {
  test(`send asks for more only when memory of ${length} bytes is free, for a client that reads late`, async () => {
    const count = Math.ceil(16_000_000 / length)
    const source = new OneBufferSource(length, count)
    await withSlowClient(source, length * count, {}, async (client, failures) => {
      await untilStill(source)
      client.socket.resume()
      const { body } = await client.response()
      assert.equal(body.length, length * count)
      for (let at = 0; at < count; at++) {
        const chunk = body.subarray(at * length, (at + 1) * length)
        assert.ok(chunk.equals(Buffer.alloc(length, at % 199)), `chunk ${at} of ${count}`)
      }
      assert.deepEqual(failures, [])
    })
  })
}

test('send ends the connection of a client that takes nothing for too long with FIN, and cancels the body', async () => {
  const source = new OneBufferSource(64 * 1024, 2_000)
  await withSlowClient(source, 64 * 1024 * 2_000, { writeTimeout: 300 }, async (client, failures) => {
    await waitFor('the body is given up', () => source.cancelled)
    await waitFor('the failure is told', () => failures.length > 0)
    assert.ok(failures[0] instanceof BodyError)
    assert.match(failures[0].message, /the client took nothing within 300 ms/)
    client.socket.resume()
    assert.equal(await client.ended(), 'fin')
    const { body } = parseResponse(client.received) ?? assert.fail('no response')
    assert.ok(body.length < 64 * 1024 * 2_000)
    // All bytes that came are correct.
    body.forEach((byte, at) => {
      if (byte !== Math.floor(at / (64 * 1024)) % 199) assert.fail(`byte ${at}`)
    })
  })
})

test('send keeps a client that takes something now and then', async () => {
  const writeTimeout = 1_000
  const clock = new ManualClock()
  let written: (() => void) | undefined
  const wire: Wire = {
    write: (_, done) => {
      written = done
    },
    end: () => undefined,
    close: () => client.left(),
  }
  const client = new Client(wire, 'GET', true, writeTimeout, clock)
  const failures: string[] = []
  const source = new OneBufferSource(1_000, 1_000)
  const answered = respond(
    () => sourceResponse(source, {}),
    client,
    (error) => void failures.push(String(error)),
  )
  await waitFor('the body begins', () => written !== undefined)
  for (let taken = 0; taken < 10; taken++) {
    await clock.pass(0.9 * writeTimeout)
    assert.equal(client.gone, false, `after ${taken} writes`)
    written?.()
    await clock.pass(0)
  }
  await clock.pass(writeTimeout)
  assert.equal(client.gone, true)
  await within('the end of the answer', answered)
  assert.deepEqual(failures, ['BodyError: the client took nothing within 1000 ms'])
  assert.equal(clock.pending, 0)
})

for (const [what, method, response] of [
  ['HEAD', 'HEAD', () => new Response('hello', { headers: { 'content-length': '5' } })],
  ['no body', 'GET', () => new Response(null, { status: 204 })],
  ['an empty body', 'GET', () => sourceResponse(sourceOf([]), { headers: { 'content-length': '0' } })],
  ['only a head', 'GET', () => sourceResponse(NO_BODY, { headers: { 'content-length': '5' } })],
] as const) {
  test(`send ends the connection of a client that does not take its head in time (${what})`, async () => {
    const clock = new ManualClock()
    const wire: Wire = { write: () => undefined, end: () => undefined, close: () => client.left() }
    const client = new Client(wire, method, true, 1_000, clock)
    const failures: string[] = []
    const answered = respond(response, client, (error) => void failures.push(String(error)))
    await clock.pass(1_000)
    await within('the end of the answer', Promise.all([answered, client.ended]))
    assert.deepEqual(failures, ['BodyError: the client took nothing within 1000 ms'])
    assert.equal(clock.pending, 0)
  })
}

test('send reports how many bytes of a body it has sent, even if the client leaves', async () => {
  for (const leaves of [false, true]) {
    // The body does not end before the client has left.
    const chunks = leaves ? 1_000_000 : 400
    const total = 64 * 1024 * chunks
    const ended = Promise.withResolvers<number>()
    const handler: Handler = (_, admission) => {
      void admission.ended?.then(ended.resolve)
      return sourceResponse(new OneBufferSource(64 * 1024, chunks), { headers: { 'content-length': String(total) } })
    }
    const listener = await listen(handler, { host: '127.0.0.1', port: 0, onError: assert.fail })
    try {
      await withRawClient(listener.port, async (client) => {
        client.send(GET)
        if (!leaves) return assert.equal((await client.response()).body.length, total)
        await waitFor('the body begins', () => client.received.length > 64 * 1024)
        client.close()
        const sent = await within('the end of the answer', ended.promise)
        assert.ok(sent > 0 && sent < total, `${sent} of ${total} bytes`)
      })
      if (!leaves) assert.equal(await within('the end of the answer', ended.promise), total)
    } finally {
      await within('the end of the listener', listener.close(AbortSignal.abort()))
    }
  }
})

test('respond reports a client that does not take the 500 for a failure, and does not throw', async () => {
  const wire = { write: () => undefined, end: () => undefined, close: () => client.left() }
  const client = new Client(wire, 'GET', true, 1)
  const failures: string[] = []
  const answer = () => Promise.reject(new Error('no answer'))
  const onError = (error: unknown) => void failures.push(String(error))
  await within('the end of the answer', respond(answer, client, onError))
  assert.deepEqual(failures, ['Error: no answer', 'BodyError: the client took nothing within 1 ms'])
})
