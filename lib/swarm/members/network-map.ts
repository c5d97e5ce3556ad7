import { addressOf } from '../../platform/address.ts'
import type { TableNode } from '../dht/table.ts'
import type { NodeAddress } from './bootstrap.ts'
import { prefixOf } from './distance.ts'
import { IdTree } from './id-tree.ts'

/** A node that has answered, at this address, and since then not been silent for long. */
export interface KnownNode extends TableNode {
  readonly prefix: number
  /** Requests in a row that it did not answer; those that were under way together are one. */
  strikes: number
  /** When that was last, and when the first of them was sent. */
  struckAt: number
  silentSince: number
  /** When it sent something by itself. */
  heardAt: number
  /** When it answered last, and when it was asked last for its neighbourhood, on the clock of who says so. */
  answeredAt: number
  exploredAt: number
}

/** Told of what changes; `recovered` of a node that was silent once and answers again. */
export interface MapListener {
  joined(node: KnownNode): void
  left(node: KnownNode): void
  recovered(node: KnownNode): void
}

export interface NetworkMapOptions {
  /** Nodes that are known at most: the largest clusters that Kubernetes supports, twice. */
  readonly capacity?: number
  /** Nodes in a row that may have been heard of but not asked yet. */
  readonly maxHeard?: number
  /** Requests in a row without an answer after which a node is lost, if it has been silent for these milliseconds as well. */
  readonly strikes?: number
  readonly silence?: number
  /** Milliseconds until a lost node is asked again, at first and at most; twice as many each time. */
  readonly retry?: readonly [first: number, most: number]
  /** How often a lost node is asked again before it is forgotten. */
  readonly tries?: number
}

export const CAPACITY = 10_000
const MAX_HEARD = 512
/**
 * One is a lost packet, two a node that is short of breath. When many are, as while a whole cluster starts, taking their records
 * elsewhere, and back again, would take the breath of others: so nobody is lost in haste. Whoever asks passes over silent ones.
 */
const STRIKES = 3
export const SILENCE = 5_000
/** Where most are silent at once, more than these, they are busy or this node is: it takes so many times longer until one is lost. */
const FEW = 4
const INDULGENCE = 6
/** Who is heard but does not answer lives, and is busy; for that many milliseconds, since a packet's sender can be a lie. */
const MOST_HEARD = 60_000
const RETRY = [3_000, 120_000] as const
/** With the delays above: for as long as others may find what the node announced (see records.ts), and are to be told. */
const TRIES = 25
const MAX_LOST = 2_000

interface Lost {
  readonly node: TableNode
  readonly since: number
  readonly tries: number
  due: number
}

/**
 * This node's picture of the DHT. A node is known once it has answered from its own address; those that others only name are
 * asked first. In Kademlia a node knows its own neighbourhood best: with every known node asked for its own, the picture is
 * complete, and who is closest to a topic can be said without a walk.
 */
export class NetworkMap {
  readonly self: TableNode
  readonly #tree = new IdTree<KnownNode>()
  readonly #known = new Map<string, KnownNode>()
  readonly #heard = new Map<string, TableNode>()
  readonly #lost = new Map<string, Lost>()
  readonly #listeners = new Set<MapListener>()
  /** How many of the known nodes have not answered last time. */
  #silent = 0
  readonly #options: Required<NetworkMapOptions>

  constructor(self: TableNode, options: NetworkMapOptions = {}) {
    this.self = self
    this.#options = {
      capacity: options.capacity ?? CAPACITY,
      maxHeard: options.maxHeard ?? MAX_HEARD,
      strikes: options.strikes ?? STRIKES,
      silence: options.silence ?? SILENCE,
      retry: options.retry ?? RETRY,
      tries: options.tries ?? TRIES,
    }
  }

  /** How many other nodes are known. */
  get others(): number {
    return this.#known.size - Number(this.#known.has(addressOf(this.self)))
  }

  /** How many have been heard of, but not been asked yet. */
  get unexplored(): number {
    return this.#heard.size
  }

  listen(listener: MapListener): void {
    this.#listeners.add(listener)
  }

  nodes(): Iterable<KnownNode> {
    return this.#tree
  }

  get(address: NodeAddress): KnownNode | undefined {
    return this.#known.get(addressOf(address))
  }

  /** Whether the node at that address answered once, and then no more. */
  isLost(address: NodeAddress): boolean {
    return this.#lost.has(addressOf(address))
  }

  closest(target: Uint8Array, count: number): KnownNode[] {
    return this.#tree.closest(target, count)
  }

  /** Takes note of a node that somebody named. */
  heard(node: TableNode): void {
    const name = addressOf(node)
    if (this.#known.has(name) || this.#lost.has(name) || this.#heard.size >= this.#options.maxHeard) return
    this.#heard.set(name, node)
  }

  /** Takes note of a node that has come by itself: even if it was lost, it is asked now. */
  met(node: TableNode): void {
    this.#lost.delete(addressOf(node))
    this.heard(node)
  }

  /** Takes note of an answer, of a node that stores records. */
  answered(node: TableNode, now: number): KnownNode | undefined {
    const name = addressOf(node)
    const known = this.#known.get(name)
    if (known !== undefined) {
      known.answeredAt = now
      if (known.strikes === 0) return known
      known.strikes = 0
      this.#silent--
      for (const listener of this.#listeners) listener.recovered(known)
      return known
    }
    this.#heard.delete(name)
    this.#lost.delete(name)
    if (this.#known.size >= this.#options.capacity) return undefined
    const { id, host, port } = node
    const joined: KnownNode = {
      id,
      host,
      port,
      prefix: prefixOf(id),
      strikes: 0,
      struckAt: 0,
      silentSince: 0,
      heardAt: Number.NEGATIVE_INFINITY,
      answeredAt: now,
      exploredAt: 0,
    }
    this.#known.set(name, joined)
    this.#tree.add(joined)
    for (const listener of this.#listeners) listener.joined(joined)
    return joined
  }

  /** Takes note of a request without an answer. One that has answered since it left, or was blamed, is not blamed. */
  silent(node: TableNode, sentAt: number, now: number): void {
    const name = addressOf(node)
    const known = this.#known.get(name)
    if (known !== undefined) {
      if (Math.max(known.answeredAt, known.struckAt) > sentAt) return
      if (known.strikes++ === 0) {
        known.silentSince = sentAt
        this.#silent++
      }
      known.struckAt = now
      const { strikes, silence } = this.#options
      const indulgence = this.#silent > Math.max(FEW, this.#known.size / 2) ? INDULGENCE : 1
      const lived = Math.max(known.silentSince, Math.min(known.heardAt, known.silentSince + MOST_HEARD))
      if (known.strikes >= strikes && now - lived >= silence * indulgence) this.lose(node, now)
      return
    }
    this.#heard.delete(name)
    if ((this.#lost.get(name)?.since ?? Number.NEGATIVE_INFINITY) < sentAt) this.#putOff(node, now)
  }

  /** Counts on a node no longer, until it answers again. */
  lose(node: TableNode, now: number): void {
    const name = addressOf(node)
    const known = this.#known.get(name)
    if (known === undefined) return
    this.#known.delete(name)
    this.#tree.delete(known)
    if (known.strikes > 0) this.#silent--
    this.#putOff(node, now)
    for (const listener of this.#listeners) listener.left(known)
  }

  /** Up to `count` nodes that have been heard of; they count as asked. */
  takeHeard(count: number): TableNode[] {
    const taken = [...this.#heard.values()].slice(0, count)
    for (const node of taken) this.#heard.delete(addressOf(node))
    return taken
  }

  /** Lost nodes that it is time to ask again. */
  dueLost(now: number, count: number): TableNode[] {
    const due: TableNode[] = []
    for (const lost of this.#lost.values()) {
      if (due.length >= count) break
      if (lost.due > now) continue
      // Not twice before its answer is there, or is not.
      lost.due = now + this.#options.retry[1]
      due.push(lost.node)
    }
    return due
  }

  #putOff(node: TableNode, now: number): void {
    const name = addressOf(node)
    const { retry, tries } = this.#options
    const tried = (this.#lost.get(name)?.tries ?? -1) + 1
    this.#lost.delete(name)
    if (tried >= tries) return
    this.#lost.set(name, { node, since: now, tries: tried, due: now + Math.min(retry[0] * 2 ** tried, retry[1]) })
    const [oldest] = this.#lost.keys()
    if (this.#lost.size > MAX_LOST && oldest !== undefined) this.#lost.delete(oldest)
  }
}
