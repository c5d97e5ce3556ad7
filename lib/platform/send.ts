import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { type ByteSource, byteSourceOf } from './byte-source.ts'

/** A body whose length is not the declared one, or that could not be read or sent to its end. */
export class BodyError extends Error {
  override readonly name = 'BodyError'
}

/**
 * Writes a response to a `node:http` exchange, byte for byte what it declares.
 *
 * A body that breaks off, or is shorter or longer than its Content-Length, ends the connection with FIN after the good
 * bytes: containerd fails a pull on RST, resumes at the offset after FIN, and hangs on a short body on an open connection
 * (measured with containerd 1.7.24 and 2.2.0). What @hono/node-server does with such bodies differs between runtimes, and
 * on some it hangs.
 *
 * A body that is not read to its end is cancelled: at once when the client leaves, even while the source is silent.
 *
 * @param writeTimeout milliseconds within which the client must take a chunk, or its connection is ended
 * @param onSent told of the bytes of the body that the system has taken, as it takes them
 * @throws {BodyError} for a body that broke off, or that the client does not take; the connection is already ending then.
 *   A client that left is no error.
 */
export async function send(
  response: Response,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
  writeTimeout: number,
  onSent: (bytes: number) => void = () => undefined,
): Promise<void> {
  if (incoming.method === 'HEAD' || response.body === null) {
    await response.body?.cancel()
    outgoing.writeHead(response.status, Object.fromEntries(response.headers))
    outgoing.end()
    return
  }
  const source = byteSourceOf(response) ?? streamSource(response.body)
  // Nobody is left to hear of a source that cannot be cancelled.
  const abandon = () => source.cancel().catch(() => undefined)
  const client = new Client(incoming, outgoing, abandon, writeTimeout)
  try {
    await sendBody(response, source, outgoing, client, onSent)
    if (client.stalled) throw new BodyError(`the client took nothing within ${writeTimeout} ms`)
  } finally {
    client.release()
    await abandon()
  }
}

async function sendBody(
  response: Response,
  source: ByteSource,
  outgoing: ServerResponse,
  client: Client,
  onSent: (bytes: number) => void,
): Promise<void> {
  const declared = response.headers.get('content-length')
  const length = declared === null ? Number.POSITIVE_INFINITY : Number(declared)
  // The head waits for the first chunk, so that content that cannot be read is still a 5xx.
  let chunk = await unlessGone(source.next(), client)
  if (client.gone) return
  outgoing.writeHead(response.status, Object.fromEntries(response.headers))
  let sent = 0
  try {
    while (chunk !== undefined) {
      const good = chunk.subarray(0, Math.min(chunk.byteLength, length - sent))
      sent += good.byteLength
      await client.write(good)
      if (!client.gone) onSent(good.byteLength)
      if (good.byteLength < chunk.byteLength) throw new Error(`more than the ${length} bytes declared`)
      chunk = client.gone ? undefined : await source.next()
    }
    if (declared !== null && sent < length && !client.gone) throw new Error('the source ended')
  } catch (cause) {
    if (client.gone) return
    outgoing.socket?.destroySoon()
    throw new BodyError(`the body broke off after ${sent} of ${declared ?? 'unknown'} bytes`, { cause })
  }
  outgoing.end()
}

function streamSource(body: ReadableStream<Uint8Array>): ByteSource {
  const reader = body.getReader()
  return { next: async () => (await reader.read()).value, cancel: () => reader.cancel() }
}

/** The client's side of an exchange: whether it is still there, and whether it takes what is written. */
class Client {
  /** Whether it has left before the end of the response. */
  gone = false
  /** Whether its connection was ended because it did not take what was written. */
  stalled = false
  readonly #outgoing: ServerResponse
  readonly #socket: Socket
  readonly #onLeave: () => void
  readonly #writeTimeout: number
  #wake: (() => void) | undefined
  /** When the write under way began, in milliseconds of the monotonic clock. */
  #since: number | undefined
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(incoming: IncomingMessage, outgoing: ServerResponse, onLeave: () => void, writeTimeout: number) {
    this.#outgoing = outgoing
    this.#writeTimeout = writeTimeout
    // A pipelined response has no connection of its own yet, but its request does.
    this.#socket = incoming.socket
    this.#onLeave = onLeave
    outgoing.on('close', this.#left)
    this.#socket.on('close', this.#left)
    if (outgoing.destroyed || this.#socket.destroyed) this.#left()
  }

  /** Writes, and waits until the memory of the chunk is free again or the client leaves. */
  async write(chunk: Uint8Array): Promise<void> {
    if (this.gone) return
    this.#since = performance.now()
    this.#timer ??= setTimeout(this.#look, this.#writeTimeout)
    await new Promise<void>((resolve) => {
      this.#wake = resolve
      // `drain` would not do: it does not come for little data, which still lies in that memory.
      this.#outgoing.write(chunk, this.#written)
    })
    this.#since = undefined
  }

  release(): void {
    clearTimeout(this.#timer)
    this.#outgoing.off('close', this.#left)
    this.#socket.off('close', this.#left)
  }

  readonly #written = (): void => this.#wake?.()

  /** One timer for the whole body, set again for the rest of the time: one for each chunk would cost more. */
  readonly #look = (): void => {
    const waited = this.#since === undefined ? 0 : performance.now() - this.#since
    if (waited < this.#writeTimeout) {
      this.#timer = setTimeout(this.#look, this.#writeTimeout - waited)
      return
    }
    this.stalled = true
    // destroySoon would wait for the client to take the rest. The system still sends what it has, and then FIN.
    this.#socket.destroy()
  }

  readonly #left = (): void => {
    this.gone = true
    this.#wake?.()
    this.#onLeave()
  }
}

/** The promise's value; `undefined` if it fails after the client has left. */
async function unlessGone<T>(promise: Promise<T>, client: Client): Promise<T | undefined> {
  try {
    return await promise
  } catch (error) {
    if (client.gone) return undefined
    throw error
  }
}
