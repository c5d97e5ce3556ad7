import { Agent, type ClientRequest, request as httpRequest, type IncomingMessage, type RequestOptions } from 'node:http'
import { request as httpsRequest, Agent as TlsAgent } from 'node:https'
import type { ByteSource } from '../runtime/byte-source.ts'
import { LENGTH_HEADER } from '../runtime/length-header.ts'
import type { Peer } from '../swarm/router.ts'
import { messageSource } from './message-source.ts'
import { PeerError } from './peer-error.ts'
import type { PeerFailure } from './peer-health.ts'
import type { TlsIdentity } from './tls.ts'

export interface PeerCall {
  readonly method: 'GET' | 'HEAD'
  /** Path and query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
}

export interface PeerReply {
  readonly status: number
  readonly headers: Headers
  /** The body; one of reading it to its end and cancelling it must happen. Reading it has no bound in time of its own. */
  readonly body: ByteSource
}

export interface PeerClientOptions {
  /** Milliseconds within which the head of an answer must be there, connection included. */
  readonly headTimeout?: number
  /** Milliseconds within which a short body that nobody wants must be there, or its connection is ended. */
  readonly discardTimeout?: number
  /** Speaks TLS 1.3 as this node, and only with nodes of the same swarm; plain TCP if missing. */
  readonly tls?: TlsIdentity | undefined
}

const HEAD_TIMEOUT = 1_000
const DISCARD_TIMEOUT = 1_000
/** Longest body that is read to keep its connection, in bytes: an error's, or a small manifest's. */
const DISCARD_LIMIT = 16 * 1024
/** How long an idle connection to a peer is kept, in milliseconds: below the 30 s after which the peer's door ends it. */
const KEEP_ALIVE = 15_000

/** A connection that had been kept for the next request broke before its answer. */
class StaleConnectionError extends PeerError {}

/** Talks HTTP to the peer doors of other nodes, with a bound on every wait. */
export class PeerClient {
  readonly #agent: Agent
  readonly #request: (options: RequestOptions) => ClientRequest
  readonly #headTimeout: number
  readonly #discardTimeout: number

  constructor({ headTimeout = HEAD_TIMEOUT, discardTimeout = DISCARD_TIMEOUT, tls }: PeerClientOptions = {}) {
    const kept = { keepAlive: true, timeout: KEEP_ALIVE }
    const secure = tls === undefined ? undefined : { ...tls, ca: [...tls.ca], minVersion: 'TLSv1.3' as const }
    this.#agent = secure === undefined ? new Agent(kept) : new TlsAgent({ ...kept, ...secure })
    this.#request = (options) => (secure === undefined ? httpRequest(options) : httpsRequest({ ...options, ...secure }))
    this.#headTimeout = headTimeout
    this.#discardTimeout = discardTimeout
  }

  /**
   * @param signal ends the call until its head is there; the body is ended by cancelling it
   * @throws {PeerError} when the peer cannot be reached or does not answer in time
   */
  async call(peer: Peer, { method, path, headers }: PeerCall, signal: AbortSignal): Promise<PeerReply> {
    const message = await this.#headOnce(peer, { method, path, headers }, signal)
    return {
      status: message.statusCode ?? 0,
      headers: headersOf(message),
      body: messageSource(message, (begun) => (begun ? message.destroy() : this.#discard(message, method))),
    }
  }

  close(): void {
    this.#agent.destroy()
  }

  /**
   * An idle connection may have been closed by the peer while the request was on its way; that says nothing about the
   * peer, so the request goes out once more (RFC 9112, section 9.3.1: both methods may be repeated).
   */
  async #headOnce(peer: Peer, call: PeerCall, signal: AbortSignal): Promise<IncomingMessage> {
    try {
      return await this.#head(peer, call, this.#agent, signal)
    } catch (error) {
      if (!(error instanceof StaleConnectionError) || signal.aborted) throw error
      return await this.#head(peer, call, false, signal)
    }
  }

  async #head(
    { host, port }: Peer,
    call: PeerCall,
    agent: Agent | false,
    signal: AbortSignal,
  ): Promise<IncomingMessage> {
    return await new Promise((resolve, reject) => {
      const outgoing = this.#request({ host, port, ...call, agent })
      const settle = (run: () => void) => {
        clearTimeout(timer)
        signal.removeEventListener('abort', aborted)
        run()
      }
      const fail = (message: string, failure: PeerFailure, cause?: unknown) =>
        settle(() => {
          outgoing.destroy()
          reject(new PeerError(`${host}:${port}: ${message}`, { cause, failure }))
        })
      const aborted = () => fail('cancelled', 'unreachable', signal.reason)
      const late = () => fail(`no answer within ${this.#headTimeout} ms`, 'silent')
      const timer = setTimeout(late, this.#headTimeout)
      // Stays for the life of the request: what breaks after the head is the body's to report.
      outgoing.on('error', (error) => {
        if (outgoing.reusedSocket) settle(() => reject(new StaleConnectionError(error.message, { cause: error })))
        else fail(error.message, 'unreachable', error)
      })
      outgoing.once('response', (message) => settle(() => resolve(message)))
      if (signal.aborted) aborted()
      else signal.addEventListener('abort', aborted, { once: true })
      outgoing.end()
    })
  }

  /** Gets rid of a body that nobody wants: a short one is read, so that its connection can be used again. */
  #discard(message: IncomingMessage, method: string): void {
    if (method !== 'HEAD' && !(Number(message.headers['content-length']) <= DISCARD_LIMIT)) {
      message.destroy()
      return
    }
    if (message.closed) return
    const timer = setTimeout(() => message.destroy(), this.#discardTimeout)
    message.once('close', () => clearTimeout(timer))
    // A connection that breaks while its body is thrown away is of no interest to anybody.
    message.on('error', () => message.destroy())
    message.resume()
  }
}

function headersOf(message: IncomingMessage): Headers {
  const headers = new Headers(Object.entries(message.headers).map(([name, value]) => [name, String(value)]))
  const length = headers.get(LENGTH_HEADER)
  if (length !== null && !headers.has('content-length')) headers.set('content-length', length)
  return headers
}
