import { addressOf } from '../../platform/address.ts'
import { type NodeAddress, prefixOf } from '../node.ts'
import { IdTree } from './id-tree.ts'
import type { DhtNode } from './rpc.ts'

/** A node that has answered from this address, and has not been silent for long since. Times are on the caller's clock. */
export interface KnownNode extends DhtNode {
  readonly prefix: number
  /** Requests in a row that it did not answer; requests that were under way together count once. */
  strikes: number
  /** When the last of them was given up, and when the first was sent. */
  struckAt: number
  silentSince: number
  /** When it last sent something by itself. */
  heardAt: number
  /** When it last answered, and when it was last asked for its neighbourhood. */
  answeredAt: number
  exploredAt: number
}

export interface MapListener {
  /** Another node has named one that is not known. */
  named(): void
  joined(node: KnownNode): void
  left(node: KnownNode): void
  /** A node did not answer. */
  silent(node: KnownNode): void
  /** A node that did not answer last time has answered again. */
  recovered(node: KnownNode): void
}

const DEFAULTS = {
  /** Known nodes at most: twice the largest cluster that Kubernetes supports. */
  capacity: 10_000,
  /** Nodes at most that others have named and that have not been asked yet. */
  maxNamed: 512,
  /**
   * Requests in a row without an answer until a node is lost. One is a lost packet, two are a node that is short of time. While a
   * whole cluster starts, many nodes are: moving their records elsewhere, and back again, would cost others the same time. So
   * no node is lost in haste; silent ones are passed over.
   */
  strikes: 3,
  /** Milliseconds of silence until a node is lost, at least. */
  silence: 5_000,
  /** Milliseconds until a lost node is asked again, at first and at most; twice as many each time. */
  retry: [3_000, 120_000] as readonly [first: number, most: number],
  /** How often a lost node is asked again: for as long as others may find what it announced, and have to learn that it is gone. */
  tries: 25,
}
export type NetworkMapOptions = Partial<typeof DEFAULTS>
export const SILENCE = DEFAULTS.silence

/** Where more than this and more than half are silent at once, they or this node are busy: losing one takes so many times longer. */
const FEW = 4
const INDULGENCE = 6
/** A node that sends but does not answer is alive and busy, for so many milliseconds at most: a packet's sender can be a lie. */
const MOST_HEARD = 60_000
const MAX_LOST = 2_000

interface Lost {
  readonly node: DhtNode
  readonly since: number
  readonly tries: number
  /** Whether it has ever answered from that address. */
  readonly hasAnswered: boolean
  due: number
}

/**
 * All nodes of the DHT that this one knows. A node is known once it has answered from its own address; those that others only
 * name have to be asked first. In Kademlia a node knows its own neighbourhood best. Once every known node has been asked for
 * its own, the map is complete and tells the nodes closest to a topic without a walk.
 */
export class NetworkMap {
  readonly self: DhtNode
  readonly #tree = new IdTree<KnownNode>()
  readonly #known = new Map<string, KnownNode>()
  readonly #named = new Map<string, DhtNode>()
  readonly #lost = new Map<string, Lost>()
  readonly #listeners = new Set<Partial<MapListener>>()
  /** How many of the known nodes did not answer last time. */
  #silent = 0
  readonly #options: typeof DEFAULTS

  constructor(self: DhtNode, options: NetworkMapOptions = {}) {
    this.self = self
    this.#options = { ...DEFAULTS, ...options }
  }

  /** How many other nodes are known. */
  get others(): number {
    return this.#known.size - Number(this.#known.has(addressOf(this.self)))
  }

  /** How many nodes have been named by others but not asked yet. */
  get unexplored(): number {
    return this.#named.size
  }

  listen(listener: Partial<MapListener>): void {
    this.#listeners.add(listener)
  }

  nodes(): Iterable<KnownNode> {
    return this.#tree
  }

  get(address: NodeAddress): KnownNode | undefined {
    return this.#known.get(addressOf(address))
  }

  /** Whether there is no answer from that address any more, or there never was one. */
  isLost(address: NodeAddress): boolean {
    return this.#lost.has(addressOf(address))
  }

  /** Whether a node has ever answered from that address, as far as is remembered. */
  hasAnswered(address: NodeAddress): boolean {
    const name = addressOf(address)
    return this.#known.has(name) || this.#lost.get(name)?.hasAnswered === true
  }

  closest(target: Uint8Array, count: number): KnownNode[] {
    return this.#tree.closest(target, count)
  }

  /** Takes note of a node that another one named. */
  named(node: DhtNode): void {
    const name = addressOf(node)
    if (this.#known.has(name) || this.#lost.has(name) || this.#named.size >= this.#options.maxNamed) return
    this.#named.set(name, node)
    for (const listener of this.#listeners) listener.named?.()
  }

  /** Takes note of a node that has sent something: even if it was lost, it is asked now. */
  met(node: DhtNode): void {
    this.#lost.delete(addressOf(node))
    this.named(node)
  }

  /**
   * Takes note that a node which stores records has answered.
   *
   * @returns the node as the map knows it; `undefined` where there is no room for it
   */
  answered(node: DhtNode, now: number): KnownNode | undefined {
    const name = addressOf(node)
    const known = this.#known.get(name)
    if (known !== undefined) {
      known.answeredAt = now
      if (known.strikes === 0) return known
      known.strikes = 0
      this.#silent--
      for (const listener of this.#listeners) listener.recovered?.(known)
      return known
    }
    this.#named.delete(name)
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
    for (const listener of this.#listeners) listener.joined?.(joined)
    return joined
  }

  /** Takes note of a request without an answer. It does not count if the node has answered, or been blamed, since it was sent. */
  silent(node: DhtNode, sentAt: number, now: number): void {
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
      else for (const listener of this.#listeners) listener.silent?.(known)
      return
    }
    this.#named.delete(name)
    if ((this.#lost.get(name)?.since ?? Number.NEGATIVE_INFINITY) < sentAt) this.#putOff(node, now)
  }

  /** Takes a node out of the map, until it answers again. */
  lose(node: DhtNode, now: number): void {
    const name = addressOf(node)
    const known = this.#known.get(name)
    if (known === undefined) return
    this.#known.delete(name)
    this.#tree.delete(known)
    if (known.strikes > 0) this.#silent--
    this.#putOff(node, now, true)
    for (const listener of this.#listeners) listener.left?.(known)
  }

  /** Up to `count` nodes that others have named; they count as asked from here on. */
  takeNamed(count: number): DhtNode[] {
    const taken = [...this.#named.values()].slice(0, count)
    for (const node of taken) this.#named.delete(addressOf(node))
    return taken
  }

  /** Known nodes that did not answer last time. */
  suspects(): KnownNode[] {
    return this.#silent === 0 ? [] : [...this.#tree].filter(({ strikes }) => strikes > 0)
  }

  /** When to ask the next lost node again; infinite if there is none. */
  get lostDueAt(): number {
    let at = Number.POSITIVE_INFINITY
    for (const { due } of this.#lost.values()) at = Math.min(at, due)
    return at
  }

  /** Lost nodes that it is time to ask again. */
  dueLost(now: number, count: number): DhtNode[] {
    const due: DhtNode[] = []
    for (const lost of this.#lost.values()) {
      if (due.length >= count) break
      if (lost.due > now) continue
      // Not again before it has had time to answer.
      lost.due = now + this.#options.retry[1]
      due.push(lost.node)
    }
    return due
  }

  #putOff(node: DhtNode, now: number, hasAnswered = this.hasAnswered(node)): void {
    const name = addressOf(node)
    const { retry, tries } = this.#options
    const tried = (this.#lost.get(name)?.tries ?? -1) + 1
    this.#lost.delete(name)
    if (tried >= tries) return
    const due = now + Math.min(retry[0] * 2 ** tried, retry[1])
    this.#lost.set(name, { node, since: now, tries: tried, hasAnswered, due })
    const [oldest] = this.#lost.keys()
    if (this.#lost.size > MAX_LOST && oldest !== undefined) this.#lost.delete(oldest)
  }
}
