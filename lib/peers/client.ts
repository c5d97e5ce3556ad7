import { bounded } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import { BoundedMap } from '../platform/bounded-map.ts'
import type { ClientTls, TlsSession } from '../platform/socket-source.ts'
import type { Peer } from '../swarm/router.ts'
import { PeerError } from './error.ts'
import { peerErrorOf } from './http1/body.ts'
import { Connection, type PeerReply } from './http1/connection.ts'
import { formatRequest, type PeerCall } from './http1/head.ts'

export interface PeerClientOptions {
  /** Milliseconds in which the head of an answer must come, including the connection and the TLS handshake. */
  readonly headTimeout?: number
  /** Milliseconds for which an idle connection is kept. */
  readonly idleTimeout?: number
  /** With it, the client speaks TLS 1.3 as this node, and only with nodes of the same swarm; plain TCP if missing. */
  readonly tls?: ClientTls | undefined
}

const HEAD_TIMEOUT = 1_000
/** In milliseconds: less than the 30 s after which the peer's door ends an idle connection. */
const IDLE_TIMEOUT = 15_000
/** containerd fetches three layers of an image at a time, and races need a few more connections. */
const MAX_IDLE_PER_PEER = 8
/** Each connection needs 128 KiB, and a pull asks at most a few dozen peers. */
const MAX_IDLE = 64
/** How many peers have their TLS session remembered: a ticket has 2 KiB. */
const MAX_SESSIONS = 256

interface Idle {
  readonly connection: Connection
  readonly address: string
  readonly timer: ReturnType<typeof setTimeout>
}

/**
 * Speaks HTTP/1.1 to the peer doors of other nodes, and bounds the wait for each head. It does not use `node:http`, whose
 * client needs several times the memory of its connections, and on Bun keeps reading a body that nobody takes.
 */
export class PeerClient {
  readonly #options: PeerClientOptions
  readonly #sessions = new BoundedMap<TlsSession>(MAX_SESSIONS)
  readonly #open = new Set<Connection>()
  /** The connection that has been idle for longest comes first. */
  #idle: Idle[] = []
  #isClosed = false

  constructor(options: PeerClientOptions = {}) {
    this.#options = options
  }

  /**
   * @param signal ends the call until its head is there; cancel the body to end it after that
   * @throws {PeerError} if the peer cannot be reached, or does not answer in time or in HTTP
   * @throws {TypeError} for a path or a header that cannot be sent
   */
  async call(peer: Peer, call: PeerCall, signal: AbortSignal): Promise<PeerReply> {
    const request = formatRequest(peer, call)
    const where = `${addressOf(peer)}: `
    const { headTimeout = HEAD_TIMEOUT } = this.#options
    try {
      const answer = (stop: AbortSignal) => this.#answer(peer, request, call.method, stop)
      return await bounded(headTimeout, signal, answer)
    } catch (error) {
      if (signal.aborted) throw new PeerError(`${where}cancelled`, { cause: signal.reason })
      const isLate = error instanceof DOMException && error.name === 'TimeoutError'
      if (!isLate) throw peerErrorOf(error, where)
      throw new PeerError(`${where}no answer within ${headTimeout} ms`, { failure: 'silent' })
    }
  }

  /** How many connections are kept for the next request. */
  get idle(): number {
    return this.#idle.length
  }

  /** Ends all connections, even those in use. */
  close(): void {
    this.#isClosed = true
    for (const connection of [...this.#open]) connection.destroy()
  }

  /**
   * If the peer closes an idle connection while the request is on its way, that says nothing about the peer, so the request is
   * sent once more (RFC 9112, section 9.3.1: both methods may be repeated).
   */
  async #answer(peer: Peer, request: string, method: PeerCall['method'], signal: AbortSignal): Promise<PeerReply> {
    signal.throwIfAborted()
    const address = addressOf(peer)
    // The one that was used last.
    const kept = this.#idle.findLast((idle) => idle.address === address)?.connection
    if (kept !== undefined) {
      this.#take(kept)
      try {
        return await kept.exchange(request, method, signal)
      } catch (error) {
        if (kept.hasAnswered) throw error
      }
      // The signal may have aborted since, and fires its event only once.
      signal.throwIfAborted()
    }
    return await this.#connect(peer, address).exchange(request, method, signal)
  }

  /** @throws {Error} if the client is closed */
  #connect({ host, port }: Peer, address: string): Connection {
    if (this.#isClosed) throw new Error('the client is closed')
    const session = this.#sessions.get(address) ?? {}
    this.#sessions.set(address, session)
    const connection: Connection = new Connection(
      { host, port, tls: this.#options.tls, session },
      {
        onIdle: () => this.#keep(connection, address),
        onClose: () => {
          this.#open.delete(connection)
          this.#take(connection)
        },
      },
    )
    this.#open.add(connection)
    return connection
  }

  #keep(connection: Connection, address: string): void {
    const { idleTimeout = IDLE_TIMEOUT } = this.#options
    const timer = setTimeout(() => connection.destroy(), idleTimeout)
    this.#idle.push({ connection, address, timer })
    const ofPeer = this.#idle.filter((idle) => idle.address === address)
    if (ofPeer.length > MAX_IDLE_PER_PEER) ofPeer[0]?.connection.destroy()
    else if (this.#idle.length > MAX_IDLE) this.#idle[0]?.connection.destroy()
  }

  /** Takes a connection out of the idle ones. */
  #take(connection: Connection): void {
    clearTimeout(this.#idle.find((idle) => idle.connection === connection)?.timer)
    this.#idle = this.#idle.filter((idle) => idle.connection !== connection)
  }
}
