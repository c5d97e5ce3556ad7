import { STATUS_CODES } from 'node:http'
import { OVER } from './abort.ts'
import { type Clock, systemClock } from './clock.ts'

/** A TCP or TLS connection that a server has accepted. */
export interface Wire {
  /** Calls `written` when the memory of the bytes may be used again, unless the connection ends first. */
  write(bytes: Uint8Array, written: () => void): void
  /** Sends FIN after everything that was written, and waits for the other side's FIN. */
  end(): void
  /** Closes the connection at once. The system still sends the bytes that it holds, and then FIN. */
  close(): void
}

/**
 * Milliseconds in which a client must take a chunk, or a head without a body. A client may pause for long while its disk is
 * slow, but containerd cancels a pull without progress after 5 minutes (1.7's `image_pull_progress_timeout`), so after twice
 * that time it is no pull any more.
 */
const WRITE_TIMEOUT = 10 * 60 * 1000
/** Bytes that go out together: one TLS record. */
const RECORD = 16 * 1024

/** The client of one exchange, as the server writes to it. */
export class Client {
  readonly method: string
  /** Whether the connection can be used again afterwards. */
  keepAlive: boolean
  headSent = false
  /** How many bytes of the body the system has taken. */
  sent = 0
  /** Why the connection was ended because the client did not take a chunk in time; missing if it was not. */
  stalled: string | undefined
  readonly #wire: Wire
  readonly #writeTimeout: number
  readonly #clock: Clock
  readonly #leaving = new AbortController()
  /** Aborts when the client leaves. */
  readonly signal = this.#leaving.signal
  readonly #done = Promise.withResolvers<void>()
  /** Resolves when the system has taken the whole response, the response has ended otherwise, or the client leaves. */
  readonly ended = this.#done.promise
  /** The head, which goes out together with the next bytes. */
  #head = Buffer.alloc(0)
  /** When the write under way began, and what ends the wait for it. */
  #since: number | undefined
  #wake: (() => void) | undefined
  #cancelTimer: (() => void) | undefined

  /** @param writeTimeout milliseconds in which the client must take a chunk or a head, or its connection is ended */
  constructor(wire: Wire, method: string, keepAlive: boolean, writeTimeout = WRITE_TIMEOUT, clock = systemClock) {
    this.#wire = wire
    this.method = method
    this.keepAlive = keepAlive
    this.#writeTimeout = writeTimeout
    this.#clock = clock
  }

  /** Whether the client has left. */
  get gone(): boolean {
    return this.signal.aborted
  }

  writeHead(status: number, headers: Headers): void {
    this.headSent = true
    const isBodyless = this.method === 'HEAD' || status === 204 || status === 304
    // A body of unknown length ends with the connection.
    if (!isBodyless && !headers.has('content-length')) this.keepAlive = false
    const lines = [...headers].map(([name, value]) => `${name}: ${value}\r\n`)
    if (!headers.has('date')) lines.push(`date: ${new Date().toUTCString()}\r\n`)
    if (!this.keepAlive) lines.push('connection: close\r\n')
    this.#head = Buffer.from(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${lines.join('')}\r\n`, 'latin1')
  }

  /** Writes a chunk, and waits until its memory may be used again or the client leaves. */
  async write(chunk: Uint8Array): Promise<void> {
    if (this.gone) return
    this.#since = this.#clock.now()
    this.#cancelTimer ??= this.#clock.after(this.#writeTimeout, this.#look)
    await new Promise<void>((resolve) => {
      this.#wake = resolve
      this.#write(chunk, resolve)
    })
    this.#since = undefined
    if (!this.gone) this.sent += chunk.length
  }

  /** Ends the response, which is complete, when the client has taken its head. */
  async end(): Promise<void> {
    if (this.#head.length > 0) await this.write(Buffer.alloc(0))
    this.#cancelTimer?.()
    this.#done.resolve()
  }

  /** Ends the connection with FIN after everything that was written, be it only the head. */
  cut(): Promise<void> {
    this.keepAlive = false
    return this.end()
  }

  /** Call this when the connection has ended. */
  left(): void {
    this.#cancelTimer?.()
    this.#leaving.abort(OVER)
    this.#wake?.()
    this.#done.resolve()
  }

  #write(chunk: Uint8Array, written: () => void): void {
    if (this.#head.length === 0) this.#wire.write(chunk, written)
    else {
      // Copies no more than goes out at once.
      const count = Math.max(RECORD - this.#head.length, 0)
      const rest = chunk.subarray(count)
      const bytes = Buffer.concat([this.#head, chunk.subarray(0, count)])
      this.#head = Buffer.alloc(0)
      this.#wire.write(bytes, rest.length === 0 ? written : () => this.#wire.write(rest, written))
    }
  }

  /** One timer for the whole body, restarted for the time that is left: a timer for each chunk would cost more. */
  readonly #look = (): void => {
    const waited = this.#since === undefined ? 0 : this.#clock.now() - this.#since
    if (waited < this.#writeTimeout) {
      this.#cancelTimer = this.#clock.after(this.#writeTimeout - waited, this.#look)
      return
    }
    this.stalled = `the client took nothing within ${this.#writeTimeout} ms`
    this.#wire.close()
  }
}
