import type { NodeAddress } from '../members/bootstrap.ts'

/** A node of the DHT. Its id, 32 bytes, is a hash of its address: nobody can choose where in the key space to stand. */
export interface TableNode extends NodeAddress {
  readonly id: Uint8Array
}

/** Who announced a topic, and the addresses that came with it (see seal.ts). */
export interface TopicRecord {
  readonly publicKey: Uint8Array
  readonly relayAddresses: readonly NodeAddress[]
}

export interface TableReply {
  /** Allows to store at the node that gave it, whatever the topic; a node that stores nothing gives none. */
  readonly token: Uint8Array | undefined
  /** Nodes that the one asked knows close to the target. */
  readonly closer: readonly NodeAddress[]
  readonly records: readonly TopicRecord[]
}

/** `refused`: the node answered, but does not take it; its token is no longer good. `silent`: no answer in time. */
export type StoreOutcome = 'done' | 'refused' | 'silent'

/**
 * What single nodes of the DHT can be asked to do: one request, one answer, nothing sent twice. `timeout` is in milliseconds.
 * None of it rejects.
 */
export interface SwarmTable {
  idOf(address: NodeAddress): Uint8Array
  /** What a node knows of the target; `undefined` when no answer came in time. */
  ask(to: NodeAddress, target: Uint8Array, timeout: number): Promise<TableReply | undefined>
  /** Stores this node's signed record. */
  store(
    to: TableNode,
    topic: Uint8Array,
    token: Uint8Array,
    relays: readonly NodeAddress[],
    timeout: number,
  ): Promise<StoreOutcome>
  /** Removes this node's record. */
  remove(to: TableNode, topic: Uint8Array, token: Uint8Array, timeout: number): Promise<StoreOutcome>
}
