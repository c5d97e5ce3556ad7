import type { Logger } from '../../observe/log.ts'
import { bounded, orAborted } from '../../platform/abort.ts'
import { type Clock, systemClock } from '../../platform/clock.ts'
import type { NodeAddress } from '../node.ts'

export interface ConnectorDependencies {
  readonly log: Logger
  /** The connected members, by their public keys in hex. */
  members(): ReadonlySet<string>
  /** Other members, to which this node has no connection. */
  unconnected(): Iterable<NodeAddress>
  /** The public key of a member in hex; `undefined` if it does not answer. */
  identify(member: NodeAddress): Promise<string | undefined>
  /** Connects to the member with that key, and keeps trying for a while. */
  join(id: string, address: NodeAddress): void
  /** Stops trying. */
  leave(id: string): void
  readonly clock?: Clock
}

/**
 * How many members this node connects to: half of the connections that are accepted (see membership.ts), so that new members
 * find room. In swarms of up to 17 nodes, all are connected.
 */
const TARGET = 16
/** Milliseconds between two searches, at first and at most; doubled each time, while nothing changes. */
const INTERVAL: readonly [first: number, most: number] = [3_000, 60_000]
/** Milliseconds that a search may take. */
const FIND_TIMEOUT = 5_000

/** Keeps this node connected to some of the members that it knows. */
export function createConnector(
  { log, members, unconnected, identify, join, leave, clock = systemClock }: ConnectorDependencies,
  interval = INTERVAL,
) {
  /** The members that this node tries to connect to. */
  const joined = new Set<string>()
  const stop = new AbortController()
  let pause = interval[0]
  /** When the next search begins; infinite while one runs. */
  let searchesAt = Number.POSITIVE_INFINITY
  let cancel = (): void => undefined

  function plan(): void {
    cancel()
    if (stop.signal.aborted) return
    searchesAt = clock.now() + pause
    cancel = clock.after(pause, start)
  }

  async function search(): Promise<void> {
    const connected = members()
    for (const id of joined) {
      if (connected.has(id)) continue
      joined.delete(id)
      leave(id)
    }
    if (connected.size >= TARGET) return
    const wanted = new Set([...connected, ...joined])
    const find = async (signal: AbortSignal) => {
      for (const member of unconnected()) {
        if (wanted.size >= TARGET) break
        const id = await orAborted(identify(member), signal)
        if (signal.aborted) break
        if (id === undefined || wanted.has(id)) continue
        wanted.add(id)
        joined.add(id)
        join(id, member)
      }
    }
    await bounded(FIND_TIMEOUT, stop.signal, find, clock)
  }

  function start(): void {
    searchesAt = Number.POSITIVE_INFINITY
    void search()
      .catch((error) => log.warn('searching for members failed', { error }))
      .finally(() => {
        plan()
        pause = Math.min(pause * 2, interval[1])
      })
  }

  return {
    /** Searches for members and connects to them, now and periodically. */
    start,

    /** Searches soon, because something has changed. */
    soon(): void {
      pause = interval[0]
      const isPlanned = searchesAt < Number.POSITIVE_INFINITY
      if (isPlanned && clock.now() + pause < searchesAt) plan()
    },

    close(): void {
      stop.abort()
      cancel()
      for (const id of joined) leave(id)
      joined.clear()
    },
  }
}
