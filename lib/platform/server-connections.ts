import { orAborted } from './abort.ts'
import { type Clock, systemClock } from './clock.ts'
import type { Admission, NewcomerBounds } from './listener.ts'
import { OPEN_FILES_LIMIT } from './runtime.ts'

/**
 * Enough for a few connections from each of a thousand nodes; an idle one costs about 10 KiB. Four doors and a file for each
 * answer must leave descriptors free, even while connections close: on Deno 2.9, a server that once lacks a descriptor for a
 * new connection takes none for some seconds.
 */
const MAX_CONNECTIONS = Math.min(4_096, Math.floor((OPEN_FILES_LIMIT || Number.POSITIVE_INFINITY) / 8))

/** Milliseconds in which `mostPerAddress` newcomers may come from one address, because each costs a TLS handshake. */
const WINDOW = 1_000

/**
 * Milliseconds to wait for a client's request for the next part. The client asks when it has most of the last part, whose final
 * MiB may still lie in the buffers of both systems, on a slow link.
 */
const NEXT_PART = 5_000
/** Milliseconds between two looks whether clients have asked for their next parts. */
const LOOK = 100

/** A connection to a server. */
export interface ServerConnection {
  readonly address: string
  readonly end: () => void
  /** Requests that are being answered. */
  running: number
  cancelTimer?: () => void
}

/** A request, until its response has been sent or its connection has ended. */
export interface Exchange {
  readonly admission: Admission
  /** @param sent how many bytes of the body the system has taken */
  over(sent?: number): void
}

/** The connections of a server. Ends some when there are too many, and all when the server closes. */
export class ServerConnections {
  readonly #most: number
  readonly #newcomerBounds: NewcomerBounds | undefined
  /** In the order in which they came. */
  readonly #connections = new Set<ServerConnection>()
  /** Connections whose client has not yet shown that it may ask. */
  readonly #newcomers = new Set<ServerConnection>()
  /** How many connections that are not trusted came from each address since {@link #since}. */
  readonly #recent = new Map<string, number>()
  #since = Number.NEGATIVE_INFINITY
  readonly #clock: Clock
  readonly #exchanges = new Map<Exchange, Promise<number>>()
  #admitted = 0
  /** Until when each client may ask for its next part, by the client's address and the content. */
  readonly #unfinished = new Map<string, number>()
  #isFinishing = false

  /**
   * @param most connections at a time; one more ends the oldest idle one
   * @param newcomerBounds missing if anybody may ask this server
   */
  constructor(most = MAX_CONNECTIONS, newcomerBounds?: NewcomerBounds, clock: Clock = systemClock) {
    this.#most = most
    this.#clock = clock
    this.#newcomerBounds = newcomerBounds
  }

  /** How many exchanges have a place. */
  get admitted(): number {
    return this.#admitted
  }

  /**
   * Takes in a connection as soon as it is accepted, before a TLS handshake. {@link remove} must follow.
   *
   * @param address the client's address, without the port
   * @param end ends the connection at once
   * @returns `undefined` if the server must end the connection at once, because too many come from that address or all others
   *   are busy
   */
  accept(address: string, end: () => void): ServerConnection | undefined {
    const connection: ServerConnection = { address, end, running: 0 }
    if (this.#newcomerBounds !== undefined && !this.#takeIn(connection, this.#newcomerBounds)) return undefined
    this.#connections.add(connection)
    if (this.#connections.size > this.#most) {
      this.#end(this.#connections.values().find(({ running }) => running === 0))
    }
    return this.#connections.has(connection) ? connection : undefined
  }

  remove(connection: ServerConnection | undefined): void {
    if (connection === undefined) return
    connection.cancelTimer?.()
    this.#connections.delete(connection)
    this.#newcomers.delete(connection)
  }

  /** Takes in a request. Its connection may have ended already. */
  begin(connection: ServerConnection | undefined): Exchange {
    const done = Promise.withResolvers<number>()
    if (connection !== undefined) connection.running++
    let places = 0
    let unfinished: string | undefined
    const nameOf = (what: string) => `${connection?.address} ${what}`
    const exchange: Exchange = {
      admission: {
        take: (most) => {
          if (places === 0 && this.#admitted < most && this.#exchanges.has(exchange)) {
            places = 1
            this.#admitted++
          }
          return places === 1
        },
        trust: () => connection && this.#trust(connection),
        mayBegin: (what) => !this.#isFinishing || this.#unfinished.has(nameOf(what)),
        givesPart: (what, isLast) => {
          const name = nameOf(what)
          this.#unfinished.delete(name)
          // A client that has left asks for no other part, and its exchange would never end this entry.
          if (isLast || !this.#exchanges.has(exchange)) return
          unfinished = name
          this.#unfinished.set(name, Number.POSITIVE_INFINITY)
        },
        ended: done.promise,
      },
      over: (sent = 0) => {
        if (!this.#exchanges.delete(exchange)) return
        this.#forgetFinished()
        // Another exchange of this client may have gone on with the content.
        if (unfinished !== undefined && this.#unfinished.has(unfinished)) {
          this.#unfinished.set(unfinished, this.#clock.now() + NEXT_PART)
        }
        this.#admitted -= places
        if (connection !== undefined) connection.running--
        done.resolve(sent)
      },
    }
    this.#exchanges.set(exchange, done.promise)
    return exchange
  }

  /** Waits until no client is likely to ask for another part of content that it has begun to get, or the signal aborts. */
  async finish(signal: AbortSignal): Promise<void> {
    this.#isFinishing = true
    for (;;) {
      this.#forgetFinished()
      if (this.#unfinished.size === 0 || signal.aborted) return
      await new Promise<void>((resolve) => this.#clock.after(LOOK, resolve))
    }
  }

  #forgetFinished(): void {
    const now = this.#clock.now()
    for (const [name, until] of this.#unfinished) if (until <= now) this.#unfinished.delete(name)
  }

  /** Ends all connections that are idle. */
  endIdle(): void {
    for (const connection of this.#connections) if (connection.running === 0) this.#end(connection)
  }

  /**
   * Waits until all exchanges are over or the signal aborts, and then ends all connections.
   *
   * @returns how many exchanges were cut
   */
  async drain(signal: AbortSignal): Promise<number> {
    while (this.#exchanges.size > 0 && !signal.aborted) {
      await orAborted(Promise.all(this.#exchanges.values()), signal)
    }
    const cut = this.#exchanges.size
    for (const connection of this.#connections) this.#end(connection)
    return cut
  }

  #takeIn(connection: ServerConnection, { most, mostPerAddress, time }: NewcomerBounds): boolean {
    const now = this.#clock.now()
    if (now - this.#since >= WINDOW) {
      this.#since = now
      this.#recent.clear()
    }
    const recent = this.#recent.get(connection.address) ?? 0
    if (recent >= mostPerAddress) return false
    this.#recent.set(connection.address, recent + 1)
    this.#newcomers.add(connection)
    connection.cancelTimer = this.#clock.after(time, () => this.#end(connection))
    const ofAddress = [...this.#newcomers].filter(({ address }) => address === connection.address)
    const [oldest] = this.#newcomers
    if (ofAddress.length > mostPerAddress) this.#end(ofAddress[0])
    else if (this.#newcomers.size > most) this.#end(oldest)
    return true
  }

  #trust(connection: ServerConnection): void {
    connection.cancelTimer?.()
    if (!this.#newcomers.delete(connection)) return
    const recent = this.#recent.get(connection.address) ?? 0
    if (recent > 0) this.#recent.set(connection.address, recent - 1)
  }

  #end(connection: ServerConnection | undefined): void {
    if (connection === undefined) return
    this.remove(connection)
    connection.end()
  }
}
