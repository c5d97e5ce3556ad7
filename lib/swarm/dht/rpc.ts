import type { NodeAddress } from '../node.ts'

/** A node of the DHT. Its id, of 32 bytes, is a hash of its address, so a node cannot choose its place in the key space. */
export interface DhtNode extends NodeAddress {
  readonly id: Uint8Array
}

/** The most records of a topic in an answer, chosen at random. */
export const MOST_ANSWERED = 20

export interface DhtReply {
  /** Another number after each start of the node, which has then forgotten what it kept. */
  readonly run: number
  /** A token that allows this node to store any topic at the node that gave it. A node that stores nothing gives none. */
  readonly token: Uint8Array | undefined
  /** Nodes close to the target that the answering node knows. */
  readonly closer: readonly NodeAddress[]
  /** The nodes that announced the target, by the addresses of their datagrams, which are those of their peer doors. */
  readonly records: readonly NodeAddress[]
  /** Whether the node has no room for more records of the target, so that others may be elsewhere. */
  readonly isFull: boolean
  /** Whether the node has all records of the target, so that no other node has to be asked. */
  readonly isWhole: boolean
}

/** The most topics of one request to store or remove: with them it still fits into one packet everywhere. */
export const MOST_TOPICS = 32

/** Up to {@link MOST_TOPICS}. */
export type Topics = readonly Uint8Array[]

/**
 * The outcome of a request to store or remove: the indexes of the topics for which the node has no room; or `refused` if it
 * answered with an error, because the token is no longer good.
 */
export type StoreOutcome = readonly number[] | 'refused'

/**
 * Requests to single nodes of the DHT: one request, one answer, and nothing is sent twice. They never reject, and resolve to
 * `undefined` if no answer comes within `timeout` milliseconds.
 */
export interface DhtRpc {
  idOf(address: NodeAddress): Uint8Array
  /** Asks what a node knows about the target. */
  ask(to: NodeAddress, target: Uint8Array, timeout: number): Promise<DhtReply | undefined>
  /** Stores this node's records of some topics. */
  store(to: NodeAddress, topics: Topics, token: Uint8Array, timeout: number): Promise<StoreOutcome | undefined>
  /** Removes these records. */
  remove(to: NodeAddress, topics: Topics, token: Uint8Array, timeout: number): Promise<StoreOutcome | undefined>
  /** The public key of the node's Hyperswarm connections. */
  identify(to: NodeAddress, timeout: number): Promise<Uint8Array | undefined>
  /** Sends one of our own messages, and returns the node's answer. */
  question(to: NodeAddress, message: Uint8Array, timeout: number): Promise<Uint8Array | undefined>
}
