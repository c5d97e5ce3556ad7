import type { Key } from '../oci/key.ts'

/** Another mirror, known by the address of its peer door: one that starts again at the same address is the same peer. */
export interface Peer {
  /** IPv4 address. */
  readonly host: string
  /** TCP port of the peer door, which is also the UDP port of the swarm. */
  readonly port: number
}

/** What a node has been told of a key. */
export interface Known {
  /** Peers that announced the key, some of them if there are many, and how many there are in all. */
  readonly peers: readonly Peer[]
  readonly count: number
  /** Whether it was told all that was announced: then others know no more, and nobody else has to be asked. */
  readonly isWhole: boolean
}

/** Who has what. One implementation on Hyperswarm, one in memory for tests, one suite for both. */
export interface Router {
  /**
   * Peers that announced the key, each once, the first answers first, without this node. Ends when all nodes that were asked
   * have answered or the signal aborts; does not throw for either.
   */
  lookup(key: Key, signal: AbortSignal): AsyncIterable<Peer>

  /** What this node itself has been told of the key. Nobody is asked. */
  known(key: Key): Known

  /** Adds to the set of keys that this node keeps announced. */
  advertise(keys: Iterable<Key>): void

  /** Takes keys out of that set, and the announcements back. */
  withdraw(keys: Iterable<Key>): void

  /**
   * Waits until every advertise and withdraw so far has reached the swarm.
   *
   * @throws the signal's reason if it aborts first
   */
  settled(signal: AbortSignal): Promise<void>
}
