import { addressOf } from '../../platform/address.ts'
import { BoundedMap } from '../../platform/bounded-map.ts'
import { type SocketAddress, type TlsSession, tellsItsEnd } from '../../platform/socket-source.ts'
import { Connection, type ConnectionEvents } from './connection.ts'

export interface ConnectionPoolOptions {
  /** Milliseconds for which an idle connection is kept. */
  readonly idleTimeout: number
  /** Idle connections to one peer that are kept at most. */
  readonly maxIdlePerPeer: number
  /** Idle connections that are kept at most. */
  readonly maxIdle: number
  /** Milliseconds within which a short body that nobody wants must be there. */
  readonly discardTimeout: number
}

/** Peers whose TLS sessions are remembered: a ticket is 2 KiB, and a pull asks a few dozen peers at most. */
const MAX_SESSIONS = 256

interface Idle {
  readonly name: string
  readonly cancelTimer: () => void
}

/** Connections to peers, of which those that are idle are kept for a while. */
export class ConnectionPool {
  readonly #tls: SocketAddress['tls']
  readonly #options: ConnectionPoolOptions
  readonly #open = new Set<Connection>()
  readonly #sessions = new BoundedMap<TlsSession>(MAX_SESSIONS)
  /** The one that has been idle for longest is the first. */
  readonly #idle = new Map<Connection, Idle>()
  #closed = false

  constructor(tls: SocketAddress['tls'], options: ConnectionPoolOptions) {
    this.#tls = tls
    this.#options = options
  }

  /** Connections that wait for a request. */
  get idle(): number {
    return this.#idle.size
  }

  /** An idle connection to that peer, the one used last; `undefined` if there is none. */
  take(host: string, port: number): Connection | undefined {
    const name = addressOf({ host, port })
    const found = [...this.#idle].findLast(([, idle]) => idle.name === name)?.[0]
    if (found !== undefined) this.#forget(found)
    return found
  }

  /**
   * A new connection.
   *
   * @throws {Error} when the pool is closed
   */
  connect(host: string, port: number): Connection {
    if (this.#closed) throw new Error('the client is closed')
    const name = addressOf({ host, port })
    const session = this.#sessions.get(name) ?? {}
    this.#sessions.set(name, session)
    const events: ConnectionEvents = {
      onIdle: (connection) => this.#keep(connection, name),
      onClose: (connection) => {
        this.#open.delete(connection)
        this.#forget(connection)
      },
    }
    const connection = new Connection({ host, port, tls: this.#tls, session }, events, this.#options.discardTimeout)
    this.#open.add(connection)
    return connection
  }

  /** Ends all connections, also those in use. */
  close(): void {
    this.#closed = true
    for (const connection of [...this.#open]) connection.destroy()
  }

  #keep(connection: Connection, name: string): void {
    if (!tellsItsEnd({ tls: this.#tls })) {
      connection.destroy()
      return
    }
    const { idleTimeout, maxIdlePerPeer, maxIdle } = this.#options
    const timer = setTimeout(() => connection.destroy(), idleTimeout)
    this.#idle.set(connection, { name, cancelTimer: () => clearTimeout(timer) })
    const ofPeer = [...this.#idle].filter(([, idle]) => idle.name === name)
    if (ofPeer.length > maxIdlePerPeer) ofPeer[0]?.[0].destroy()
    else if (this.#idle.size > maxIdle) [...this.#idle.keys()][0]?.destroy()
  }

  #forget(connection: Connection): void {
    this.#idle.get(connection)?.cancelTimer()
    this.#idle.delete(connection)
  }
}
