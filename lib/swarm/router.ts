import type { Key } from '../oci/key.ts'

/** Another mirror, known by the address of its peer door: one that starts again at the same address is the same peer. */
export interface Peer {
  /** IPv4 address. */
  readonly host: string
  /** TCP port of the peer door, which is also the UDP port of the swarm. */
  readonly port: number
}

/** What a router counts, for metrics. Times are in milliseconds; what has been done so far only grows. */
export interface SwarmFigures {
  /** Keys that are kept announced, and those whose announcement or withdrawal is not complete. */
  readonly keys: number
  readonly waiting: number
  /** Keys announced again so far, and by how much that is late now. */
  readonly refreshed: number
  readonly lag: number
  /** Records stored and removed at nodes so far, and requests of that kind that were lost. */
  readonly stored: number
  readonly removed: number
  readonly lost: number
  /** Lookups run so far, and those that were answered by another one of the same key. */
  readonly lookups: number
  readonly shared: number
  /** Requests to other nodes so far, and those without an answer in time. */
  readonly requests: number
  readonly silent: number
  /** Records that this node stores for others, how many it may, and those that had to make room so far. */
  readonly records: number
  readonly recordLimit: number
  readonly dropped: number
}

/** Who has what. One implementation on Hyperswarm, one in memory for tests, one suite for both. */
export interface Router {
  /** Whether lookups work: the node has joined, or has found itself to be the first. */
  readonly ready: boolean

  /** How many other nodes of the swarm this node knows; 0 means that it is alone. */
  readonly neighbours: number

  /**
   * Peers that announced the key, each once, the closest answers first, this node left out. Ends when everybody asked has
   * answered or the signal aborts; neither throws.
   */
  lookup(key: Key, signal: AbortSignal): AsyncIterable<Peer>

  /** Adds to the set of keys that this node keeps announced. */
  advertise(keys: Iterable<Key>): void

  /** Takes keys out of that set, and the announcements back. */
  withdraw(keys: Iterable<Key>): void

  /** Waits until every advertise and withdraw so far has reached the swarm, or the signal aborts (then it throws). */
  settled(signal: AbortSignal): Promise<void>

  close(): Promise<void>
}
