import type { NodeAddress } from '../node.ts'

/** A node of the DHT. Its id, 32 bytes, is a hash of its address: a node cannot choose its place in the key space freely. */
export interface DhtNode extends NodeAddress {
  readonly id: Uint8Array
}

/** Who announced a topic, and the addresses that came with it (see seal.ts). */
export interface TopicRecord {
  readonly publicKey: Uint8Array
  readonly relayAddresses: readonly NodeAddress[]
}

export interface DhtReply {
  /** Allows to store at the node that gave it, whatever the topic; a node that stores nothing gives none. */
  readonly token: Uint8Array | undefined
  /** Nodes close to the target that the replying node knows. */
  readonly closer: readonly NodeAddress[]
  readonly records: readonly TopicRecord[]
}

/** `refused`: the node answered with an error, so its token is no longer good. */
export type StoreOutcome = 'done' | 'refused'

/**
 * Requests to single nodes of the DHT: one request, one answer, nothing sent twice. They never reject, and give `undefined`
 * if no answer comes within `timeout` milliseconds.
 */
export interface DhtRpc {
  idOf(address: NodeAddress): Uint8Array
  /** What a node knows of the target. */
  ask(to: NodeAddress, target: Uint8Array, timeout: number): Promise<DhtReply | undefined>
  /** Stores this node's signed record. */
  store(
    to: DhtNode,
    topic: Uint8Array,
    token: Uint8Array,
    relays: readonly NodeAddress[],
    timeout: number,
  ): Promise<StoreOutcome | undefined>
  /** Removes this node's record. */
  remove(to: DhtNode, topic: Uint8Array, token: Uint8Array, timeout: number): Promise<StoreOutcome | undefined>
  /** Sends a message of ours, and gives what the node has answered. */
  question(to: NodeAddress, message: Uint8Array, timeout: number): Promise<Uint8Array | undefined>
}
