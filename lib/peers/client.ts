import { bounded } from '../platform/abort.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Peer } from '../swarm/router.ts'
import { PeerError } from './error.ts'
import { peerErrorOf } from './http1/body.ts'
import { StaleConnectionError } from './http1/error.ts'
import { ConnectionPool } from './http1/pool.ts'
import { formatRequest } from './http1/request.ts'
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
  /**
   * To be read to its end or cancelled. How long a byte is worth waiting for, only its reader knows: it cancels a body that it
   * waits for no longer.
   */
  readonly body: ByteSource
}

export interface PeerClientOptions {
  /** Milliseconds within which the head of an answer must be there, connection and TLS handshake included. */
  readonly headTimeout?: number
  /** Milliseconds within which a short body that nobody wants must be there, or its connection is ended. */
  readonly discardTimeout?: number
  /** Milliseconds for which an idle connection is kept. */
  readonly idleTimeout?: number
  /** Speaks TLS 1.3 as this node, and only with nodes of the same swarm; plain TCP if missing. */
  readonly tls?: TlsIdentity | undefined
}

const HEAD_TIMEOUT = 1_000
const DISCARD_TIMEOUT = 1_000
/** Below the 30 s after which the peer's door ends an idle connection, in milliseconds. */
const IDLE_TIMEOUT = 15_000
/** containerd fetches three layers of an image at a time, and a few more are on their way for races. */
const MAX_IDLE_PER_PEER = 8
/** Each one needs 128 KiB; a pull asks a few dozen peers at most. */
const MAX_IDLE = 64

/**
 * Talks HTTP/1.1 to the peer doors of other nodes, with a bound on the wait for each head. Not through `node:http`: its client needs
 * several times the memory of the connections below it, and on Bun it goes on reading a body that nobody takes.
 */
export class PeerClient {
  readonly #pool: ConnectionPool
  readonly #headTimeout: number

  constructor(options: PeerClientOptions = {}) {
    this.#headTimeout = options.headTimeout ?? HEAD_TIMEOUT
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
    const request = formatRequest({ method, host, port, path, headers })
    const where = `${host}:${port}: `
    try {
      const answer = (stop: AbortSignal) => this.#answer({ host, port }, request, method, stop)
      const { head, body } = await bounded(this.#headTimeout, signal, answer)
      return { status: head.status, headers: head.headers, body }
    } catch (error) {
      if (signal.aborted) throw new PeerError(`${where}cancelled`, { cause: signal.reason })
      const isLate = error instanceof DOMException && error.name === 'TimeoutError'
      if (!isLate) throw peerErrorOf(error, where)
      throw new PeerError(`${where}no answer within ${this.#headTimeout} ms`, { failure: 'silent' })
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
  async #answer({ host, port }: Peer, request: string, method: PeerCall['method'], signal: AbortSignal) {
    signal.throwIfAborted()
    const kept = this.#pool.take(host, port)
    if (kept !== undefined) {
      try {
        return await kept.exchange(request, method, signal)
      } catch (error) {
        if (!(error instanceof StaleConnectionError)) throw error
      }
      // It may have aborted since, and tells of that only once.
      signal.throwIfAborted()
    }
    return await this.#pool.connect(host, port).exchange(request, method, signal)
  }
}
