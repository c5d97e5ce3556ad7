import { EventEmitter } from 'node:events'
import { addressOf } from '../../platform/address.ts'
import { BoundedMap } from '../../platform/bounded-map.ts'
import { compareDistance, type NodeAddress, prefixDistance, prefixOf } from '../node.ts'
import type { DhtNode, DhtReply } from './rpc.ts'

/** A node that has answered from this address, and has not been silent for long since then. Times are on the caller's clock. */
export interface KnownNode extends DhtNode {
  readonly prefix: number
  /** How many requests in a row it did not answer. Requests that were under way together count once. */
  strikes: number
  /** When the last of these requests was given up, and when the first one was sent. */
  struckAt: number
  silentSince: number
  /** When it last sent something by itself. */
  heardAt: number
  /** When it last answered, and when it was last asked for its neighbourhood. */
  answeredAt: number
  exploredAt: number
  /** The last run that was taken note of (see {@link DhtReply}), and when. */
  run: number | undefined
  ranAt: number
}

interface MapEvents {
  /** Another node has named an unknown node. */
  named: []
  joined: [node: KnownNode]
  left: [node: KnownNode]
  /** A node has not answered. */
  silent: [node: KnownNode]
  /** A node that did not answer last time has answered again. */
  recovered: [node: KnownNode]
  /** A node was started again, faster than its silence was noticed, and has forgotten what it kept. */
  restarted: [node: KnownNode]
}

/** How many nodes are known at most: twice the largest cluster that Kubernetes supports. */
const MAX_KNOWN = 10_000
/** How many nodes are kept that others have named and that have not been asked yet. */
const MAX_NAMED = 512
/**
 * Requests in a row without an answer until a node is lost. One may be a lost packet, and two a node that is short of time, as
 * many are while a whole cluster starts. Moving their records away and back would cost other nodes time, so silent nodes are
 * first only skipped.
 */
const STRIKES = 3
/** The least milliseconds of silence until a node is lost. */
export const SILENCE = 5_000
/** Milliseconds until a lost node is asked again, at first and at most; doubled each time. */
const [FIRST_RETRY, LAST_RETRY] = [3_000, 120_000]
/** How often a lost node is asked again: as long as others may find its announcements, and must learn that it is gone. */
const TRIES = 25
/**
 * If more than `FEW` nodes and more than half are silent at once, they or this node are busy, and losing a node takes longer.
 */
const FEW = 4
const INDULGENCE = 6
/**
 * Milliseconds for which a node that sends but does not answer counts as alive and busy. It is bounded because the sender of a
 * packet can be forged.
 */
const MOST_HEARD = 60_000
const MAX_LOST = 2_000
/**
 * Milliseconds in which a node counts as started again once at most: all that it keeps is sent to it again. It must have that
 * before it says that it has all records (see known.ts).
 */
const RESTART_INTERVAL = 30_000

interface Lost {
  readonly node: DhtNode
  readonly since: number
  readonly tries: number
  /** Whether the node has ever answered from that address. */
  readonly hasAnswered: boolean
  due: number
}

/**
 * All nodes of the DHT that this one knows. A node is known once it has answered from its own address; nodes that others name
 * must be asked first. In Kademlia a node knows its own neighbourhood best. Once every known node has been asked for its
 * neighbourhood, the map is complete, and gives the nodes closest to a topic without a walk.
 */
export class NetworkMap extends EventEmitter<MapEvents> {
  readonly self: DhtNode
  /** The known nodes, in the order of their prefixes. */
  readonly #nodes: KnownNode[] = []
  readonly #known = new Map<string, KnownNode>()
  readonly #named = new Map<string, DhtNode>()
  readonly #lost = new BoundedMap<Lost>(MAX_LOST)

  constructor(self: DhtNode) {
    super()
    this.self = self
  }

  /** How many other nodes are known. */
  get others(): number {
    return this.#known.size - Number(this.#known.has(addressOf(this.self)))
  }

  /** How many nodes others have named that have not been asked yet. */
  get unexplored(): number {
    return this.#named.size
  }

  nodes(): Iterable<KnownNode> {
    return this.#nodes
  }

  get(address: NodeAddress): KnownNode | undefined {
    return this.#known.get(addressOf(address))
  }

  /** Whether that address no longer answers, or never has. */
  isLost(address: NodeAddress): boolean {
    return this.#lost.has(addressOf(address))
  }

  /** Whether a lost node has ever answered from that address. */
  hasAnswered(address: NodeAddress): boolean {
    return this.#lost.get(addressOf(address))?.hasAnswered === true
  }

  /** The `count` known nodes closest to the target in Kademlia's metric, the closest first. */
  closest(target: Uint8Array, count: number): KnownNode[] {
    const prefix = prefixOf(target)
    let from = this.#placeOf(prefix)
    let to = from
    // Nodes that share more bits with the target are closer, and stand together around its place.
    for (let reach = 1; to - from < Math.min(count, this.#nodes.length); reach *= 2) {
      const isNear = (node?: KnownNode) => node !== undefined && prefixDistance(node.prefix, prefix) < reach
      while (isNear(this.#nodes[from - 1])) from--
      while (isNear(this.#nodes[to])) to++
    }
    const near = this.#nodes.slice(from, to)
    return near.sort((a, b) => compareDistance(target, a.id, b.id)).slice(0, count)
  }

  /** Notes a node that another one has named. */
  named(node: DhtNode): void {
    const name = addressOf(node)
    if (this.#known.has(name) || this.#lost.has(name) || this.#named.size >= MAX_NAMED) return
    this.#named.set(name, node)
    this.emit('named')
  }

  /** Notes a node that has sent something. It is asked now, even if it was lost. */
  met(node: DhtNode): void {
    this.#lost.delete(addressOf(node))
    this.named(node)
  }

  /**
   * Notes that a node which stores records has answered.
   *
   * @returns the node as the map knows it; `undefined` if there is no room for it
   */
  answered(node: DhtNode, now: number): KnownNode | undefined {
    const name = addressOf(node)
    const known = this.#known.get(name)
    if (known !== undefined) {
      known.answeredAt = now
      if (known.strikes === 0) return known
      known.strikes = 0
      this.emit('recovered', known)
      return known
    }
    this.#named.delete(name)
    this.#lost.delete(name)
    if (this.#known.size >= MAX_KNOWN) return undefined
    const joined: KnownNode = {
      ...node,
      prefix: prefixOf(node.id),
      strikes: 0,
      struckAt: 0,
      silentSince: 0,
      heardAt: Number.NEGATIVE_INFINITY,
      answeredAt: now,
      exploredAt: 0,
      run: undefined,
      ranAt: Number.NEGATIVE_INFINITY,
    }
    this.#known.set(name, joined)
    this.#nodes.splice(this.#placeOf(joined.prefix), 0, joined)
    this.emit('joined', joined)
    return joined
  }

  /** Notes the run that a node has answered with. */
  ran(node: KnownNode, run: number, now: number): void {
    if (node.run === run || now - node.ranAt < RESTART_INTERVAL) return
    const isAnother = node.run !== undefined
    node.run = run
    if (!isAnother) return
    node.ranAt = now
    this.emit('restarted', node)
  }

  /** Notes a request without an answer. It does not count if the node has answered or been blamed since it was sent. */
  silent(node: DhtNode, sentAt: number, now: number): void {
    const name = addressOf(node)
    const known = this.#known.get(name)
    if (known !== undefined) {
      if (Math.max(known.answeredAt, known.struckAt) > sentAt) return
      if (known.strikes++ === 0) known.silentSince = sentAt
      known.struckAt = now
      const indulgence = this.suspects().length > Math.max(FEW, this.#known.size / 2) ? INDULGENCE : 1
      const lived = Math.max(known.silentSince, Math.min(known.heardAt, known.silentSince + MOST_HEARD))
      if (known.strikes >= STRIKES && now - lived >= SILENCE * indulgence) this.lose(node, now)
      else this.emit('silent', known)
      return
    }
    this.#named.delete(name)
    if ((this.#lost.get(name)?.since ?? Number.NEGATIVE_INFINITY) < sentAt) this.#putOff(node, now)
  }

  /** Takes a node out of the map until it answers again. */
  lose(node: DhtNode, now: number): void {
    const name = addressOf(node)
    const known = this.#known.get(name)
    if (known === undefined) return
    this.#known.delete(name)
    this.#nodes.splice(this.#nodes.indexOf(known), 1)
    this.#putOff(node, now, true)
    this.emit('left', known)
  }

  /** Up to `count` nodes that others have named. They count as asked from now on. */
  takeNamed(count: number): DhtNode[] {
    const taken = [...this.#named.values()].slice(0, count)
    for (const node of taken) this.#named.delete(addressOf(node))
    return taken
  }

  /** The known nodes that did not answer last time. */
  suspects(): KnownNode[] {
    return this.#nodes.filter(({ strikes }) => strikes > 0)
  }

  /** When to ask the next lost node again; infinite if there is none. */
  get lostDueAt(): number {
    return Math.min(...this.#lost.values().map(({ due }) => due))
  }

  /** The lost nodes that are due to be asked again. */
  dueLost(now: number, count: number): DhtNode[] {
    const isDue = ({ due }: Lost) => due <= now
    const asked = [...this.#lost.values().filter(isDue).take(count)]
    // It is not asked again before it has had time to answer.
    for (const lost of asked) lost.due = now + LAST_RETRY
    return asked.map(({ node }) => node)
  }

  /** The place in the order of the first node with this prefix or a higher one. */
  #placeOf(prefix: number): number {
    const at = this.#nodes.findIndex((node) => node.prefix >= prefix)
    return at < 0 ? this.#nodes.length : at
  }

  #putOff(node: DhtNode, now: number, hasAnswered = this.hasAnswered(node)): void {
    const name = addressOf(node)
    const tried = (this.#lost.get(name)?.tries ?? -1) + 1
    this.#lost.delete(name)
    if (tried >= TRIES) return
    const due = now + Math.min(FIRST_RETRY * 2 ** tried, LAST_RETRY)
    this.#lost.set(name, { node, since: now, tries: tried, hasAnswered, due })
  }
}
