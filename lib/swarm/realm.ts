import { createHmac } from 'node:crypto'
import b4a from 'b4a'
import type { Key } from '../oci/key.ts'
import type { TopicRecord } from './dht/rpc.ts'
import { AnnouncementSeal } from './dht/seal.ts'
import type { NodeAddress } from './node.ts'
import type { Peer } from './router.ts'

/** Names the use of the swarm key, so that what it derives for one purpose is worth nothing for another. */
const PURPOSE = 'swarmirror/topic/1\n'

/**
 * The key of a swarm that never leaves loopback and was given none: it protects nothing, and says so by being all zeros.
 */
export const LOOPBACK_SWARM_KEY: Uint8Array = new Uint8Array(32)

/** What members announce themselves to. It is neither a digest, which has a colon, nor a tag, which has a slash. */
export const MEMBERS = 'members' as Key

/**
 * The 32-byte DHT topic of a key: HMAC-SHA256 under the swarm key. Without the swarm key nobody can compute the topic of a
 * known image, or tell what a topic stands for.
 */
export function topicOf(swarmKey: Uint8Array, key: Key): Uint8Array {
  return createHmac('sha256', swarmKey).update(PURPOSE).update(key).digest()
}

/** A peer as a record announces it. */
export interface Announced extends Peer {
  /** The Hyperswarm public key of the node that announced it, in hex: another one after each start, unless it is remembered. */
  readonly id: string
}

/** What keys and records are under one swarm key, for one node. */
export class Realm {
  readonly #swarmKey: Uint8Array
  readonly #seal: AnnouncementSeal
  readonly #publicKey: Uint8Array
  readonly #door: NodeAddress
  #last: { readonly topic: Uint8Array; readonly relays: readonly NodeAddress[] } | undefined

  /**
   * @param publicKey of this node
   * @param door of this node
   */
  constructor(swarmKey: Uint8Array, publicKey: Uint8Array, door: NodeAddress) {
    this.#swarmKey = swarmKey
    this.#seal = new AnnouncementSeal(swarmKey)
    this.#publicKey = publicKey
    this.#door = door
  }

  topicOf(key: Key): Uint8Array {
    return topicOf(this.#swarmKey, key)
  }

  /** The addresses of this node's record for a topic. The last ones are kept, since they go to several nodes in a row. */
  relaysOf(topic: Uint8Array): readonly NodeAddress[] {
    if (this.#last?.topic === topic) return this.#last.relays
    // The node relays for itself, so a single lookup tells where its peer door is.
    const relays = this.#seal.seal(topic, this.#publicKey, this.#door)
    this.#last = { topic, relays }
    return relays
  }

  /** The peer of a record; `undefined` unless a member with this swarm key has sealed it for that topic. */
  open(topic: Uint8Array, { publicKey, relayAddresses }: TopicRecord): Announced | undefined {
    const door = this.#seal.open(topic, publicKey, relayAddresses)
    return door && { id: b4a.toString(publicKey, 'hex'), host: door.host, port: door.port }
  }

  /** Whether a record is this node's own. */
  isOwn({ publicKey }: TopicRecord): boolean {
    return b4a.equals(publicKey, this.#publicKey)
  }
}
