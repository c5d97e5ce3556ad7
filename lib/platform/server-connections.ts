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
export type ServerConnections = ReturnType<typeof createServerConnections>

/**
 * @param most connections at a time; one more ends the oldest idle one
 * @param newcomerBounds missing if anybody may ask this server
 */
export function createServerConnections(
  most = MAX_CONNECTIONS,
  newcomerBounds?: NewcomerBounds,
  clock: Clock = systemClock,
) {
  /** In the order in which they came. */
  const connections = new Set<ServerConnection>()
  /** Connections whose client has not yet shown that it may ask. */
  const newcomers = new Set<ServerConnection>()
  /** How many connections that are not trusted came from each address since {@link since}. */
  const recent = new Map<string, number>()
  let since = Number.NEGATIVE_INFINITY
  const exchanges = new Set<Exchange>()
  let admitted = 0
  /** Until when each client may ask for its next part, by the client's address and the content. */
  const unfinished = new Map<string, number>()
  let isFinishing = false

  function takeIn(connection: ServerConnection, bounds: NewcomerBounds): boolean {
    const { address } = connection
    const now = clock.now()
    if (now - since >= WINDOW) {
      since = now
      recent.clear()
    }
    const came = recent.get(address) ?? 0
    if (came >= bounds.mostPerAddress) return false
    recent.set(address, came + 1)
    newcomers.add(connection)
    connection.cancelTimer = clock.after(bounds.time, () => end(connection))
    const ofAddress = [...newcomers].filter((one) => one.address === address)
    const [oldest] = newcomers
    if (ofAddress.length > bounds.mostPerAddress) end(ofAddress[0])
    else if (newcomers.size > bounds.most) end(oldest)
    return true
  }

  function trust(connection: ServerConnection): void {
    connection.cancelTimer?.()
    if (!newcomers.delete(connection)) return
    const came = recent.get(connection.address) ?? 0
    if (came > 0) recent.set(connection.address, came - 1)
  }

  function remove(connection: ServerConnection): void {
    connection.cancelTimer?.()
    connections.delete(connection)
    newcomers.delete(connection)
  }

  function end(connection: ServerConnection | undefined): void {
    if (connection === undefined) return
    remove(connection)
    connection.end()
  }

  function forgetFinished(): void {
    const now = clock.now()
    for (const [name, until] of unfinished) if (until <= now) unfinished.delete(name)
  }

  return {
    remove,

    /** How many exchanges have a place. */
    get admitted(): number {
      return admitted
    },

    /**
     * Takes in a connection as soon as it is accepted, before a TLS handshake. {@link remove} must follow.
     *
     * @param address the client's address, without the port
     * @param endNow ends the connection at once
     * @returns `undefined` if the server must end the connection at once, because too many come from that address or all others
     *   are busy
     */
    accept(address: string, endNow: () => void): ServerConnection | undefined {
      const connection: ServerConnection = { address, end: endNow, running: 0 }
      if (newcomerBounds !== undefined && !takeIn(connection, newcomerBounds)) return undefined
      connections.add(connection)
      if (connections.size > most) end(connections.values().find(({ running }) => running === 0))
      return connections.has(connection) ? connection : undefined
    },

    /** Takes in a request. Its connection may have ended already. */
    begin(connection: ServerConnection): Exchange {
      const done = Promise.withResolvers<number>()
      connection.running++
      let hasPlace = false
      let given: string | undefined
      const nameOf = (what: string) => `${connection.address} ${what}`
      const exchange: Exchange = {
        admission: {
          take: (mostPlaces) => {
            if (!hasPlace && admitted < mostPlaces && exchanges.has(exchange)) {
              hasPlace = true
              admitted++
            }
            return hasPlace
          },
          trust: () => trust(connection),
          mayBegin: (what) => !isFinishing || unfinished.has(nameOf(what)),
          givesPart: (what, isLast) => {
            const name = nameOf(what)
            unfinished.delete(name)
            // A client that has left asks for no other part, and its exchange would never end this entry.
            if (isLast || !exchanges.has(exchange)) return
            given = name
            unfinished.set(name, Number.POSITIVE_INFINITY)
          },
          ended: done.promise,
        },
        over: (sent = 0) => {
          if (!exchanges.delete(exchange)) return
          forgetFinished()
          // Another exchange of this client may have gone on with the content.
          if (given !== undefined && unfinished.has(given)) unfinished.set(given, clock.now() + NEXT_PART)
          if (hasPlace) admitted--
          connection.running--
          done.resolve(sent)
        },
      }
      exchanges.add(exchange)
      return exchange
    },

    /** Waits until no client is likely to ask for another part of content that it has begun to get, or the signal aborts. */
    async finish(signal: AbortSignal): Promise<void> {
      isFinishing = true
      for (;;) {
        forgetFinished()
        if (unfinished.size === 0 || signal.aborted) return
        await new Promise<void>((resolve) => clock.after(LOOK, resolve))
      }
    },

    /**
     * Ends all connections that are idle, waits until all exchanges are over or the signal aborts, and ends the rest.
     *
     * @returns how many exchanges were cut
     */
    async drain(signal: AbortSignal): Promise<number> {
      for (const connection of connections) if (connection.running === 0) end(connection)
      const over = () => Promise.all([...exchanges].map(({ admission }) => admission.ended))
      while (exchanges.size > 0 && !signal.aborted) await orAborted(over(), signal)
      const cut = exchanges.size
      for (const connection of connections) end(connection)
      return cut
    },
  }
}
