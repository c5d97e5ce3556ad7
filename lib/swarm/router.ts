import type { Key } from '../oci/key.ts'
import type { NodeAddress } from './node.ts'

/** Another mirror, identified by the address of its peer door. If it restarts at the same address, it is the same peer. */
export type Peer = NodeAddress

/** What this node itself knows about a key. */
export interface Known {
  /** Peers that announced the key, in random order. */
  readonly peers: readonly Peer[]
  /** Whether this node knows all announcements of the key. Then others know no more, and nobody has to be asked. */
  readonly isWhole: boolean
}

/** Who has what. There is an implementation on Hyperswarm and one in memory for tests; one suite tests both. */
export interface Router {
  /**
   * Peers that announced the key, each once and without this node, in the order of the answers. Ends when all nodes that were
   * asked have answered, or when the signal aborts; neither throws.
   */
  lookup(key: Key, signal: AbortSignal): AsyncIterable<Peer>

  /** What this node itself knows about the key. It asks nobody. */
  known(key: Key): Known

  /** Adds to the set of keys that this node keeps announced. */
  advertise(keys: Iterable<Key>): void

  /** Takes keys out of that set, and withdraws their announcements. */
  withdraw(keys: Iterable<Key>): void

  /**
   * Waits until every advertise and withdraw so far has reached the swarm.
   *
   * @throws the signal's reason if it aborts first
   */
  settled(signal: AbortSignal): Promise<void>
}
