import type { ByteSource } from '../platform/byte-source.ts'
import { LENGTH_HEADER } from '../platform/listener.ts'
import type { Peer } from '../swarm/router.ts'
import { PeerError } from './error.ts'
import type { Connection, HttpAnswer } from './http1/connection.ts'
import { ProtocolError, StaleConnectionError } from './http1/error.ts'
import { ConnectionPool } from './http1/pool.ts'
import { formatRequest } from './http1/request.ts'
import { patientClock } from './patient-clock.ts'
import type { PeerFailure } from './standing.ts'
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
  /** The body; one of reading it to its end and cancelling it must happen. Every read of it has a bound in time. */
  readonly body: ByteSource
}

export interface PeerClientOptions {
  /** Milliseconds within which the head of an answer must be there, connection and TLS handshake included. */
  readonly headTimeout?: number
  /** Milliseconds within which a short body that nobody wants must be there, or its connection is ended. */
  readonly discardTimeout?: number
  /** Milliseconds within which a byte of a body must come when it is waited for, or its connection is ended. */
  readonly byteTimeout?: number
  /** Milliseconds for which an idle connection is kept. */
  readonly idleTimeout?: number
  /** Speaks TLS 1.3 as this node, and only with nodes of the same swarm; plain TCP if missing. */
  readonly tls?: TlsIdentity | undefined
}

const HEAD_TIMEOUT = 1_000
const DISCARD_TIMEOUT = 1_000
/** Milliseconds without a byte after which a body has failed, for callers that set no bound of their own. */
export const BYTE_TIMEOUT = 30_000
/** Below the 30 s after which the peer's door ends an idle connection, in milliseconds. */
const IDLE_TIMEOUT = 15_000
/** containerd fetches three layers of an image at a time, and a few more are on their way for races. */
const MAX_IDLE_PER_PEER = 8
/** Each one needs 128 KiB; a pull asks a few dozen peers at most. */
const MAX_IDLE = 64

/**
 * Talks HTTP/1.1 to the peer doors of other nodes, with a bound on every wait. Not through `node:http`: its client needs
 * several times the memory of the connections below it, and on Bun it goes on reading a body that nobody takes.
 */
export class PeerClient {
  readonly #pool: ConnectionPool
  readonly #headTimeout: number
  readonly #byteTimeout: number

  constructor(options: PeerClientOptions = {}) {
    this.#headTimeout = options.headTimeout ?? HEAD_TIMEOUT
    this.#byteTimeout = options.byteTimeout ?? BYTE_TIMEOUT
    this.#pool = new ConnectionPool(options.tls, {
      idleTimeout: options.idleTimeout ?? IDLE_TIMEOUT,
      maxIdlePerPeer: MAX_IDLE_PER_PEER,
      maxIdle: MAX_IDLE,
      discardTimeout: options.discardTimeout ?? DISCARD_TIMEOUT,
    })
  }

  /**
   * @param signal ends the call until its head is there; the body is ended by cancelling it
   * @throws {PeerError} when the peer cannot be reached, does not answer in time or not in HTTP
   * @throws {TypeError} for a path or a header that cannot be sent
   */
  async call({ host, port }: Peer, { method, path, headers }: PeerCall, signal: AbortSignal): Promise<PeerReply> {
    const request: Request = { host, port, method, bytes: formatRequest({ method, host, port, path, headers }) }
    const failed = (message: string, failure: PeerFailure, cause?: unknown) =>
      new PeerError(`${host}:${port}: ${message}`, { failure, cause })
    const stop = new AbortController()
    const abort = () => stop.abort(failed('cancelled', 'unreachable', signal.reason))
    const late = () => stop.abort(failed(`no answer within ${this.#headTimeout} ms`, 'silent'))
    const timer = setTimeout(late, this.#headTimeout)
    signal.addEventListener('abort', abort, { once: true })
    if (signal.aborted) abort()
    try {
      const { head, body } = await this.#answer(request, stop.signal)
      const { status, headers, framing } = head
      const length = framing.kind === 'chunked' ? lengthOf(headers) : undefined
      return { status, headers: headersOf(headers), body: new PeerBody(body, this.#byteTimeout, length) }
    } catch (error) {
      if (error instanceof PeerError) throw error
      throw failed(messageOf(error), failureOf(error), error)
    } finally {
      clearTimeout(timer)
      signal.removeEventListener('abort', abort)
    }
  }

  /** Connections that are kept for the next request. */
  get idle(): number {
    return this.#pool.idle
  }

  close(): void {
    this.#pool.close()
  }

  /**
   * An idle connection may have been closed by the peer while the request was on its way; that says nothing about the
   * peer, so the request goes out once more (RFC 9112, section 9.3.1: both methods may be repeated).
   */
  async #answer(request: Request, signal: AbortSignal): Promise<HttpAnswer> {
    signal.throwIfAborted()
    const { host, port } = request
    const kept = this.#pool.take(host, port)
    if (kept !== undefined) {
      try {
        return await exchange(kept, request, signal)
      } catch (error) {
        if (!(error instanceof StaleConnectionError)) throw error
      }
      // It may have aborted since, and tells of that only once.
      signal.throwIfAborted()
    }
    return await exchange(this.#pool.connect(host, port), request, signal)
  }
}

interface Request {
  readonly host: string
  readonly port: number
  readonly method: 'GET' | 'HEAD'
  readonly bytes: string
}

/** @throws the signal's reason, if that is why there is no answer */
async function exchange(connection: Connection, { bytes, method }: Request, signal: AbortSignal): Promise<HttpAnswer> {
  const destroy = () => connection.destroy()
  signal.addEventListener('abort', destroy, { once: true })
  try {
    const answer = await connection.exchange(bytes, method)
    // The head may have come in the moment in which it was too late.
    signal.throwIfAborted()
    return answer
  } catch (error) {
    destroy()
    signal.throwIfAborted()
    throw error
  } finally {
    signal.removeEventListener('abort', destroy)
  }
}

/** A body whose failures are the peer's, its silence too. */
class PeerBody implements ByteSource {
  readonly #body: ByteSource
  readonly #byteTimeout: number
  /** What is left of a body in chunks of which the length was told beside. */
  #missing: number | undefined

  constructor(body: ByteSource, byteTimeout: number, length?: number) {
    this.#body = body
    this.#byteTimeout = byteTimeout
    this.#missing = length
    if (length === 0) void this.#settle()
  }

  async next(): Promise<Uint8Array | undefined> {
    if (this.#missing === 0) return undefined
    const chunk = await this.#read()
    if (this.#missing === undefined || chunk === undefined) return chunk
    if (chunk.length > this.#missing) {
      await this.cancel()
      throw new PeerError('more bytes than declared', { failure: 'invalid' })
    }
    this.#missing -= chunk.length
    if (this.#missing > 0) return chunk
    // Its memory is used again by what follows.
    const last = new Uint8Array(chunk)
    void this.#settle()
    return last
  }

  cancel(): Promise<void> {
    return this.#body.cancel()
  }

  /**
   * Reads the end of a body that is complete: in chunks it may come later than the last byte, for which nobody waits. Only
   * then its connection can be used again; with anything else, or nothing, it is ended.
   */
  async #settle(): Promise<void> {
    try {
      if ((await this.#read()) !== undefined) await this.cancel()
    } catch (error) {
      // The reader has all that it was promised; the connection has ended with the failure.
      if (!(error instanceof PeerError)) throw error
    }
  }

  async #read(): Promise<Uint8Array | undefined> {
    let isLate = false
    const cancelTimer = patientClock.after(this.#byteTimeout, () => {
      isLate = true
      void this.#body.cancel()
    })
    try {
      return await this.#body.next()
    } catch (error) {
      if (isLate) throw new PeerError(`no byte within ${this.#byteTimeout} ms`, { failure: 'silent' })
      throw new PeerError(messageOf(error), { failure: failureOf(error), cause: error })
    } finally {
      cancelTimer()
    }
  }
}

/** The length that a head tells beside a body in chunks; `undefined` if it tells none. */
function lengthOf(headers: Headers): number | undefined {
  const text = headers.get(LENGTH_HEADER) ?? ''
  return /^\d{1,15}$/.test(text) ? Number(text) : undefined
}

function headersOf(headers: Headers): Headers {
  const length = headers.get(LENGTH_HEADER)
  if (length !== null && !headers.has('content-length')) headers.set('content-length', length)
  return headers
}

function failureOf(error: unknown): PeerFailure {
  return error instanceof ProtocolError ? 'invalid' : 'unreachable'
}

function messageOf(error: unknown): string {
  return (error instanceof Error && error.message) || 'the connection broke'
}
