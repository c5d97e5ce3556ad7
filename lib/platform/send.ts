import { type ByteSource, byteSourceOf, NO_BODY } from './byte-source.ts'
import { internalError } from './listener.ts'

/**
 * Milliseconds in which a client must take a chunk. A client may pause for long while its disk is slow, but containerd cancels
 * a pull without progress after 5 minutes (1.7's `image_pull_progress_timeout`), so after twice that time it is no pull any
 * more.
 */
const WRITE_TIMEOUT = 10 * 60 * 1000

/** A body whose length is not the declared one, or that could not be read or sent to its end. */
export class BodyError extends Error {
  override readonly name = 'BodyError'
}

/** The client of an exchange, as the server writes to it. */
export interface Client {
  readonly method: string
  /** Whether the client has left. */
  readonly gone: boolean
  readonly headSent: boolean
  writeHead(status: number, headers: Headers): void
  /** Calls `written` when the memory of the chunk may be used again, unless the client leaves first. */
  write(chunk: Uint8Array, written: () => void): void
  /** Ends the response, which is complete. */
  end(): void
  /** Ends the connection with FIN after everything that was written, be it only the head. */
  cut(): void
  /** Ends the connection at once. The system still sends the bytes that it holds, and then FIN. */
  drop(): void
  /** Calls `left` once when the client leaves, at once if it has left already. */
  onLeave(left: () => void): Disposable
}

export interface SendOptions {
  /** Milliseconds in which the client must take a chunk, or its connection is ended. */
  readonly writeTimeout?: number | undefined
  /** Called with the number of body bytes each time that the system has taken some. */
  readonly onSent: (bytes: number) => void
}

/** Sends the response that `answer` returns. If that fails, it calls `onError`, and then sends a 500 or ends the connection. */
export async function respond(
  answer: () => Response | Promise<Response>,
  client: Client,
  onError: (error: unknown) => void,
  options: SendOptions,
): Promise<void> {
  try {
    await send(await answer(), client, options)
  } catch (error) {
    onError(error)
    if (client.headSent) return client.cut()
    // If this fails too, the client has lost its connection, and nothing more can be sent.
    await send(internalError(), client, options).catch(onError)
  }
}

/**
 * Writes a response, with exactly as many bytes as it declares.
 *
 * If a body breaks off, or is shorter or longer than its Content-Length, the connection ends with FIN after the good bytes:
 * containerd fails the pull on RST, resumes at the offset after FIN, and hangs on a short body if the connection stays open
 * (measured with containerd 1.7.24 and 2.2.0).
 *
 * A body that is not read to its end is cancelled, at once when the client leaves, even while the source is silent.
 *
 * @throws {BodyError} if the body broke off or the client does not take it; the connection is already ending then. A client
 *   that leaves is no error.
 */
async function send(
  response: Response,
  client: Client,
  { writeTimeout = WRITE_TIMEOUT, onSent }: SendOptions,
): Promise<void> {
  const source = byteSourceOf(response)
  if (client.method === 'HEAD' || source === undefined) {
    await source?.cancel()
    client.writeHead(response.status, response.headers)
    client.end()
    return
  }
  if (source === NO_BODY) {
    client.writeHead(response.status, response.headers)
    client.cut()
    return
  }
  // Nobody is left who could be told that cancelling the source failed.
  const abandon = () => source.cancel().catch(() => undefined)
  const writer = new Writer(client, abandon, writeTimeout)
  try {
    await sendBody(response, source, client, writer, onSent)
    if (writer.stalled) throw new BodyError(`the client took nothing within ${writeTimeout} ms`)
  } finally {
    writer.release()
    await abandon()
  }
}

async function sendBody(
  response: Response,
  source: ByteSource,
  client: Client,
  writer: Writer,
  onSent: (bytes: number) => void,
): Promise<void> {
  const declared = response.headers.get('content-length')
  const length = declared === null ? Number.POSITIVE_INFINITY : Number(declared)
  // The head waits for the first chunk, so that content that cannot be read is still a 5xx.
  let chunk = await unlessGone(source.next(), client)
  if (client.gone) return
  client.writeHead(response.status, response.headers)
  let sent = 0
  try {
    while (chunk !== undefined) {
      const good = chunk.subarray(0, Math.min(chunk.byteLength, length - sent))
      sent += good.byteLength
      await writer.write(good)
      if (!client.gone) onSent(good.byteLength)
      if (good.byteLength < chunk.byteLength) throw new Error(`more than the ${length} bytes declared`)
      chunk = client.gone ? undefined : await source.next()
    }
    if (declared !== null && sent < length && !client.gone) throw new Error('the source ended')
  } catch (cause) {
    if (client.gone) return
    client.cut()
    throw new BodyError(`the body broke off after ${sent} of ${declared ?? 'unknown'} bytes`, { cause })
  }
  client.end()
}

/** Writes chunk after chunk, and ends the connection if the client does not take them. */
class Writer {
  /** Whether the connection was ended because the client did not take a chunk in time. */
  stalled = false
  readonly #client: Client
  readonly #writeTimeout: number
  readonly #leaving: Disposable
  #wake: (() => void) | undefined
  /** When the write under way began, in milliseconds of the monotonic clock. */
  #since: number | undefined
  #timer: ReturnType<typeof setTimeout> | undefined

  constructor(client: Client, onLeave: () => void, writeTimeout: number) {
    this.#client = client
    this.#writeTimeout = writeTimeout
    this.#leaving = client.onLeave(() => {
      this.#wake?.()
      onLeave()
    })
  }

  /** Writes the chunk, and waits until its memory may be used again or the client leaves. */
  async write(chunk: Uint8Array): Promise<void> {
    if (this.#client.gone) return
    this.#since = performance.now()
    this.#timer ??= setTimeout(this.#look, this.#writeTimeout)
    await new Promise<void>((resolve) => {
      this.#wake = resolve
      this.#client.write(chunk, resolve)
    })
    this.#since = undefined
  }

  release(): void {
    clearTimeout(this.#timer)
    this.#leaving[Symbol.dispose]()
  }

  /** One timer for the whole body, restarted for the time that is left: a timer for each chunk would cost more. */
  readonly #look = (): void => {
    const waited = this.#since === undefined ? 0 : performance.now() - this.#since
    if (waited < this.#writeTimeout) {
      this.#timer = setTimeout(this.#look, this.#writeTimeout - waited)
      return
    }
    this.stalled = true
    this.#client.drop()
  }
}

/** The promise's value; `undefined` if the promise rejects after the client has left. */
async function unlessGone<T>(promise: Promise<T>, client: Client): Promise<T | undefined> {
  try {
    return await promise
  } catch (error) {
    if (client.gone) return undefined
    throw error
  }
}
