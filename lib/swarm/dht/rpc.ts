import type { NodeAddress } from '../node.ts'

/** A node of the DHT. Its id, 32 bytes, is a hash of its address: a node cannot choose its place in the key space freely. */
export interface DhtNode extends NodeAddress {
  readonly id: Uint8Array
}

/** Records of a topic that a node gives at most, chosen at random. */
export const MOST_ANSWERED = 20

export interface DhtReply {
  /** Allows to store at the node that gave it, whatever the topic; a node that stores nothing gives none. */
  readonly token: Uint8Array | undefined
  /** Nodes close to the target that the replying node knows. */
  readonly closer: readonly NodeAddress[]
  /** Who announced the target: where its datagrams came from, which is where its peer door is. */
  readonly records: readonly NodeAddress[]
  /** The node has no room for more records of the target, so there may be others elsewhere. */
  readonly isFull: boolean
  /** The node keeps whatever is announced of the target, so no other one is to be asked. */
  readonly isWhole: boolean
}

/** `full`: the node has no room for the record. `refused`: it answered with another error, so its token is no longer good. */
export type StoreOutcome = 'done' | 'full' | 'refused'

/**
 * Requests to single nodes of the DHT: one request, one answer, nothing sent twice. They never reject, and give `undefined`
 * if no answer comes within `timeout` milliseconds.
 */
export interface DhtRpc {
  idOf(address: NodeAddress): Uint8Array
  /** What a node knows of the target. */
  ask(to: NodeAddress, target: Uint8Array, timeout: number): Promise<DhtReply | undefined>
  /** Stores this node's record of a topic. */
  store(to: NodeAddress, topic: Uint8Array, token: Uint8Array, timeout: number): Promise<StoreOutcome | undefined>
  /** Removes this node's record of a topic. */
  remove(to: NodeAddress, topic: Uint8Array, token: Uint8Array, timeout: number): Promise<StoreOutcome | undefined>
  /** The public key of the node's Hyperswarm connections. */
  identify(to: NodeAddress, timeout: number): Promise<Uint8Array | undefined>
  /** Sends a message of ours, and gives what the node has answered. */
  question(to: NodeAddress, message: Uint8Array, timeout: number): Promise<Uint8Array | undefined>
}
