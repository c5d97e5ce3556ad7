import type { Key } from '../../oci/key.ts'
import { AnnouncementSeal } from '../dht/seal.ts'
import type { TopicRecord } from '../dht/table.ts'
import type { NodeAddress } from '../members/bootstrap.ts'
import { compareIds } from '../members/distance.ts'
import type { Peer } from '../router.ts'
import { topicOf } from '../topic.ts'

/** A peer as a record announces it. */
export interface Announced extends Peer {
  /** The Hyperswarm public key of the node that announced it, in hex: another one after each start, unless it is remembered. */
  readonly id: string
}

/** What one swarm key opens. */
export interface Realm {
  topicOf(key: Key): Uint8Array
  /** The peer of a record, if a member of this swarm key has sealed it for that topic. */
  open(topic: Uint8Array, record: TopicRecord): Announced | undefined
}

/**
 * What keys and peers look like in the DHT: sealed records on the topics that come of the swarm keys. Announced is under the
 * first key, found is what was announced under any.
 */
export class Directory {
  readonly realms: readonly Realm[]
  readonly #swarmKey: Uint8Array
  readonly #seal: AnnouncementSeal
  readonly #publicKey: Uint8Array
  readonly #self: NodeAddress
  #last: { readonly topic: Uint8Array; readonly relays: readonly NodeAddress[] } | undefined

  constructor(swarmKeys: readonly [Uint8Array, ...Uint8Array[]], publicKey: Uint8Array, self: NodeAddress) {
    this.realms = swarmKeys.map(realmOf)
    this.#swarmKey = swarmKeys[0]
    this.#seal = new AnnouncementSeal(swarmKeys[0])
    this.#publicKey = publicKey
    this.#self = self
  }

  /** The topic on which this node announces a key. */
  topicOf(key: Key): Uint8Array {
    return topicOf(this.#swarmKey, key)
  }

  /** The addresses of this node's record for a topic. They go to several nodes in a row, so the last ones are kept. */
  relaysOf(topic: Uint8Array): readonly NodeAddress[] {
    if (this.#last?.topic === topic) return this.#last.relays
    // The node relays for itself, and its relay address tells a looker-up where the peer door is: one lookup, no more.
    const relays = this.#seal.seal(topic, this.#publicKey, this.#self)
    this.#last = { topic, relays }
    return relays
  }

  isOwn({ publicKey }: TopicRecord): boolean {
    return compareIds(publicKey, this.#publicKey) === 0
  }
}

function realmOf(swarmKey: Uint8Array): Realm {
  const seal = new AnnouncementSeal(swarmKey)
  return {
    topicOf: (key) => topicOf(swarmKey, key),
    open(topic, { publicKey, relayAddresses }) {
      const door = seal.open(topic, publicKey, relayAddresses)
      if (door === undefined) return undefined
      return { id: Buffer.from(publicKey).toString('hex'), host: door.host, port: door.port }
    },
  }
}
