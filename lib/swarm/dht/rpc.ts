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

/** Topics of one request to store or to remove, at most: with them it still fits into one packet everywhere. */
export const MOST_TOPICS = 32

/** Up to {@link MOST_TOPICS}. */
export type Topics = readonly Uint8Array[]

/**
 * How a request to store or to remove ended: the indexes of the topics for which the node has no room; or `refused`, where it answered
 * with an error, so the token is no longer good.
 */
export type StoreOutcome = readonly number[] | 'refused'

/**
 * Requests to single nodes of the DHT: one request, one answer, nothing sent twice. They never reject, and give `undefined`
 * if no answer comes within `timeout` milliseconds.
 */
export interface DhtRpc {
  idOf(address: NodeAddress): Uint8Array
  /** What a node knows of the target. */
  ask(to: NodeAddress, target: Uint8Array, timeout: number): Promise<DhtReply | undefined>
  /** Stores this node's records of some topics. */
  store(to: NodeAddress, topics: Topics, token: Uint8Array, timeout: number): Promise<StoreOutcome | undefined>
  /** Removes them. */
  remove(to: NodeAddress, topics: Topics, token: Uint8Array, timeout: number): Promise<StoreOutcome | undefined>
  /** The public key of the node's Hyperswarm connections. */
  identify(to: NodeAddress, timeout: number): Promise<Uint8Array | undefined>
  /** Sends a message of ours, and gives what the node has answered. */
  question(to: NodeAddress, message: Uint8Array, timeout: number): Promise<Uint8Array | undefined>
}
