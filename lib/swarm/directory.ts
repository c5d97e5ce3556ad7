import type { Logger } from '../observe/log.ts'
import type { Key } from '../oci/key.ts'
import type { NodeAddress } from './bootstrap.ts'
import { merge } from './merge.ts'
import type { Peer } from './router.ts'
import { AnnouncementSeal } from './seal.ts'
import { topicOf } from './topic.ts'

/** What nodes of the DHT answer when they are asked for a topic. */
export interface TopicQuery extends AsyncIterable<TopicReply> {
  finished(): Promise<void>
  destroy(): void
}

export interface TopicReply {
  readonly peers: readonly { readonly publicKey: Uint8Array; readonly relayAddresses: readonly NodeAddress[] }[]
}

export interface TopicQueryOptions {
  /** Nodes that are asked besides those that the DHT knows. */
  readonly nodes?: readonly NodeAddress[]
  /** How often a request that was not answered is sent again. */
  readonly retries?: number
}

export interface KeyPair {
  readonly publicKey: Uint8Array
  readonly secretKey: Uint8Array
}

/** The part of HyperDHT that knows topics. */
export interface TopicTable {
  lookup(topic: Uint8Array, options: TopicQueryOptions): TopicQuery
  announce(
    topic: Uint8Array,
    keyPair: KeyPair,
    relays: readonly NodeAddress[],
    options: TopicQueryOptions,
  ): Pick<TopicQuery, 'finished'>
  unannounce(topic: Uint8Array, keyPair: KeyPair, options: TopicQueryOptions): Promise<void>
}

export interface DirectoryDependencies {
  readonly table: TopicTable
  readonly keyPair: KeyPair
  readonly log: Logger
}

/** What one swarm key opens. */
interface Realm {
  readonly swarmKey: Uint8Array
  readonly seal: AnnouncementSeal
}

/**
 * Who has announced which key: sealed records on the topics that come of the swarm keys. Announced is under the first key,
 * found is what was announced under any.
 */
export class Directory {
  readonly #table: TopicTable
  readonly #keyPair: KeyPair
  readonly #log: Logger
  readonly #self: NodeAddress
  readonly #used: Realm
  readonly #accepted: readonly Realm[]
  #closed = false

  constructor(
    { table, keyPair, log }: DirectoryDependencies,
    swarmKeys: readonly [Uint8Array, ...Uint8Array[]],
    self: NodeAddress,
  ) {
    this.#table = table
    this.#keyPair = keyPair
    this.#log = log
    this.#self = self
    const realm = (swarmKey: Uint8Array): Realm => ({ swarmKey, seal: new AnnouncementSeal(swarmKey) })
    const [first, ...others] = swarmKeys
    this.#used = realm(first)
    this.#accepted = [this.#used, ...others.map(realm)]
  }

  /** The members that announced the key, each once, this node left out. Ends when the signal aborts; does not throw. */
  async *find(key: Key, signal: AbortSignal): AsyncIterable<Peer> {
    const lookups = this.#accepted.map(({ swarmKey, seal }): Lookup => {
      const topic = topicOf(swarmKey, key)
      return { topic, seal, query: this.#table.lookup(topic, this.#includingSelf()) }
    })
    const stop = () => {
      for (const { query } of lookups) query.destroy()
    }
    signal.addEventListener('abort', stop, { once: true })
    const seen = new Set([Buffer.from(this.#keyPair.publicKey).toString('hex')])
    try {
      for await (const peer of merge(lookups.map(peersOf))) {
        if (seen.has(peer.id)) continue
        seen.add(peer.id)
        yield peer
      }
    } catch (error) {
      if (!signal.aborted && !this.#closed) this.#log.warn('lookup failed', { key, error })
    } finally {
      signal.removeEventListener('abort', stop)
      stop()
    }
  }

  /** @throws when no node could be reached */
  async announce(key: Key): Promise<void> {
    const topic = topicOf(this.#used.swarmKey, key)
    // The node relays for itself, and its relay address tells a looker-up where the peer door is: one lookup, no more.
    const addresses = this.#used.seal.seal(topic, this.#keyPair.publicKey, this.#self)
    await this.#table.announce(topic, this.#keyPair, addresses, this.#includingSelf()).finished()
  }

  /** @throws when no node could be reached */
  async unannounce(key: Key): Promise<void> {
    const topic = topicOf(this.#used.swarmKey, key)
    // A node that just died must not hold up the stop of this one; what it stored went with it.
    await this.#table.unannounce(topic, this.#keyPair, { ...this.#includingSelf(), retries: 1 })
  }

  /** From now on a lookup that fails is no news: its DHT is being closed. */
  close(): void {
    this.#closed = true
  }

  /**
   * A DHT node never asks itself, so of two nodes neither would find what the other one stores for it, and a node that is
   * alone could announce nothing. Every query therefore asks this node too.
   */
  #includingSelf(): { nodes: NodeAddress[] } {
    return { nodes: [this.#self] }
  }
}

interface Lookup {
  readonly topic: Uint8Array
  readonly seal: AnnouncementSeal
  readonly query: TopicQuery
}

/** The peers of the records that a member has sealed. */
async function* peersOf({ topic, seal, query }: Lookup): AsyncIterable<Peer> {
  for await (const { peers } of query) {
    for (const { publicKey, relayAddresses } of peers) {
      const door = seal.open(topic, publicKey, relayAddresses)
      if (door !== undefined) yield { id: Buffer.from(publicKey).toString('hex'), host: door.host, port: door.port }
    }
  }
}
