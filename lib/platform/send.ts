import { type ByteSource, byteSourceOf, NO_BODY } from './byte-source.ts'
import { internalError } from './listener.ts'

/**
 * How long a client may take for a chunk, in milliseconds. A client may rest for long while its disk does not keep up, but
 * containerd itself cancels a pull that has not moved for 5 minutes (1.7's `image_pull_progress_timeout`): a client that
 * rests for twice as long is no pull any more.
 */
const WRITE_TIMEOUT = 10 * 60 * 1000

/** A body whose length is not the declared one, or that could not be read or sent to its end. */
export class BodyError extends Error {
  override readonly name = 'BodyError'
}

/** The client of an exchange, as a server reaches it. */
export interface Client {
  readonly method: string
  /** Whether it has left. */
  readonly gone: boolean
  readonly headSent: boolean
  writeHead(status: number, headers: Headers): void
  /** Sends the head without waiting for a byte of the body. */
  flushHead(): void
  /** Calls back when the memory of the chunk is free again, unless the client leaves before. */
  write(chunk: Uint8Array, written: () => void): void
  /** The response is complete. */
  end(): void
  /** Ends the connection with FIN after all that was written. */
  cut(): void
  /** Ends the connection at once. The system still sends what it has, and then FIN. */
  drop(): void
  /** Calls back once when the client leaves, at once if it has left already. */
  onLeave(left: () => void): Disposable
}

export interface SendOptions {
  /** Milliseconds within which the client must take a chunk, or its connection is ended. */
  readonly writeTimeout?: number | undefined
  /** Told of the bytes of the body that the system has taken, as it takes them. */
  readonly onSent: (bytes: number) => void
}

/** Sends the response that `answer` gives; where that fails, a 500 or the end of the connection, after `onError` was told. */
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
    // A client that does not take this either has lost its connection, and nothing else can be said.
    await send(internalError(), client, options).catch(onError)
  }
}

/**
 * Writes a response, byte for byte what it declares.
 *
 * A body that breaks off, or is shorter or longer than its Content-Length, ends the connection with FIN after the good
 * bytes: containerd fails a pull on RST, resumes at the offset after FIN, and hangs on a short body on an open connection
 * (measured with containerd 1.7.24 and 2.2.0). What @hono/node-server does with such bodies differs between runtimes, and
 * on some it hangs.
 *
 * A body that is not read to its end is cancelled: at once when the client leaves, even while the source is silent.
 *
 * @throws {BodyError} for a body that broke off, or that the client does not take; the connection is already ending then.
 *   A client that left is no error.
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
    client.flushHead()
    client.cut()
    return
  }
  // Nobody is left to hear of a source that cannot be cancelled.
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

/** Writes chunk after chunk, and ends the connection of a client that does not take them. */
class Writer {
  /** Whether its connection was ended because it did not take what was written. */
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

  /** Writes, and waits until the memory of the chunk is free again or the client leaves. */
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

  /** One timer for the whole body, set again for the rest of the time: one for each chunk would cost more. */
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

/** The promise's value; `undefined` if it fails after the client has left. */
async function unlessGone<T>(promise: Promise<T>, client: Client): Promise<T | undefined> {
  try {
    return await promise
  } catch (error) {
    if (client.gone) return undefined
    throw error
  }
}
