import { Agent, request as httpRequest, type IncomingMessage } from 'node:http'
import type { Peer } from '../swarm/router.ts'

/** A peer that did not answer, or not as it should. */
export class PeerError extends Error {
  override readonly name = 'PeerError'
}

export interface PeerCall {
  readonly method: 'GET' | 'HEAD'
  /** Path and query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
}

export interface PeerReply {
  readonly status: number
  readonly headers: Headers
  /** The body; exactly one of reading it to its end and cancelling it must happen. */
  readonly body: ReadableStream<Uint8Array>
}

export interface PeerClientOptions {
  /** Milliseconds within which the head of an answer must be there, connection included. */
  readonly headTimeout?: number
  /** Milliseconds for which a body that is being read may bring no byte. */
  readonly idleTimeout?: number
}

const HEAD_TIMEOUT = 1_000
const IDLE_TIMEOUT = 5_000
/** Longest body that is read to keep its connection, in bytes: an error's, or a small manifest's. */
const DISCARD_LIMIT = 16 * 1024
/** How long an idle connection to a peer is kept, in milliseconds: below the 30 s after which the peer's door ends it. */
const KEEP_ALIVE = 15_000

/** Talks HTTP to the peer doors of other nodes, with a bound on every wait. */
export class PeerClient {
  readonly #agent = new Agent({ keepAlive: true, timeout: KEEP_ALIVE })
  readonly #headTimeout: number
  readonly #idleTimeout: number

  constructor({ headTimeout = HEAD_TIMEOUT, idleTimeout = IDLE_TIMEOUT }: PeerClientOptions = {}) {
    this.#headTimeout = headTimeout
    this.#idleTimeout = idleTimeout
  }

  /**
   * @param signal ends the call, and the reading of its body
   * @throws {PeerError} when the peer cannot be reached or does not answer in time
   */
  async call(peer: Peer, { method, path, headers }: PeerCall, signal: AbortSignal): Promise<PeerReply> {
    const message = await this.#head(peer, { method, path, headers }, signal)
    return {
      status: message.statusCode ?? 0,
      headers: new Headers(Object.entries(message.headers).map(([name, value]) => [name, String(value)])),
      body: this.#body(message, method, signal),
    }
  }

  close(): void {
    this.#agent.destroy()
  }

  async #head({ host, port }: Peer, call: PeerCall, signal: AbortSignal): Promise<IncomingMessage> {
    return await new Promise((resolve, reject) => {
      const outgoing = httpRequest({ host, port, ...call, agent: this.#agent })
      const settle = (run: () => void) => {
        clearTimeout(timer)
        signal.removeEventListener('abort', aborted)
        run()
      }
      const fail = (message: string, cause?: unknown) =>
        settle(() => {
          outgoing.destroy()
          reject(new PeerError(`${host}:${port}: ${message}`, { cause }))
        })
      const aborted = () => fail('cancelled', signal.reason)
      const timer = setTimeout(() => fail(`no answer within ${this.#headTimeout} ms`), this.#headTimeout)
      // Stays for the life of the request: what breaks after the head is the body's to report.
      outgoing.on('error', (error) => fail(error.message, error))
      outgoing.once('response', (message) => settle(() => resolve(message)))
      if (signal.aborted) aborted()
      else signal.addEventListener('abort', aborted, { once: true })
      outgoing.end()
    })
  }

  #body(message: IncomingMessage, method: string, signal: AbortSignal): ReadableStream<Uint8Array> {
    const chunks = message[Symbol.asyncIterator]() as AsyncIterator<Uint8Array>
    const aborted = () => message.destroy(new PeerError('cancelled', { cause: signal.reason }))
    const release = () => signal.removeEventListener('abort', aborted)
    if (signal.aborted) aborted()
    else signal.addEventListener('abort', aborted, { once: true })
    let started = false
    return new ReadableStream<Uint8Array>(
      {
        pull: async (controller) => {
          started = true
          const silent = () => message.destroy(new PeerError(`no byte within ${this.#idleTimeout} ms`))
          const timer = setTimeout(silent, this.#idleTimeout)
          try {
            const { done, value } = await chunks.next()
            if (!done) return controller.enqueue(value)
            release()
            controller.close()
          } catch (error) {
            release()
            throw error
          } finally {
            clearTimeout(timer)
          }
        },
        cancel: () => {
          release()
          if (started) message.destroy()
          else this.#discard(message, method)
        },
      },
      { highWaterMark: 0 },
    )
  }

  /** Gets rid of a body that nobody wants: a short one is read, so that its connection can be used again. */
  #discard(message: IncomingMessage, method: string): void {
    if (method !== 'HEAD' && !(Number(message.headers['content-length']) <= DISCARD_LIMIT)) {
      message.destroy()
      return
    }
    if (message.closed) return
    const timer = setTimeout(() => message.destroy(), this.#idleTimeout)
    message.once('close', () => clearTimeout(timer))
    // A connection that breaks while its body is thrown away is of no interest to anybody.
    message.on('error', () => message.destroy())
    message.resume()
  }
}
