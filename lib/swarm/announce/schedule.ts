import type { Key } from '../../oci/key.ts'
import { unlessAborted } from '../../platform/abort.ts'
import type { KnownNode, NetworkMap } from '../dht/network-map.ts'
import { MOST_TOPICS, type Refused } from '../dht/rpc.ts'
import { PREFIXES, prefixDistance } from '../node.ts'
import { LANES, type Lane, Placement } from './placement.ts'

export interface ScheduleOptions {
  /** How many nodes, the closest ones to its topic, store a key. */
  readonly replicas: number
  /** Milliseconds within which everything is announced again. */
  readonly refreshPeriod: number
  /** Milliseconds for which a node keeps a record. */
  readonly recordLife: number
}

/** A request to send: it stores up to {@link MOST_TOPICS} keys at the node, or removes them from it. */
export interface Task {
  readonly placements: readonly Placement[]
  readonly node: KnownNode
  readonly kind: 'store' | 'remove'
}

/** Placements of one lane that are worked on together, because one request to a node can be for many of them. */
interface Open {
  readonly lane: Lane
  readonly placements: ReadonlySet<Placement>
  /** Placements that still have to be sent, by node. */
  readonly byNode: Map<KnownNode, Placement[]>
}

/**
 * The parts of the key space, of which one after the other is announced again within a period: one every half a minute. Keys of
 * one part have the same closest nodes, so few requests, and few tokens, are needed.
 */
export const PARTS = 40
/** A key that was announced within this share of a period is not due yet when its part is. */
const YOUNG = 0.1
/** How many groups of placements one call looks at before it gives up. */
const MOST_LOOKED_AT = 4

/**
 * Decides what to announce and withdraw, where, and in which order. It knows which nodes hold each key and which must hold it,
 * and tells what to send next. It neither sends nor waits itself.
 *
 * A placement waits in the lane of its most urgent reason. Withdrawals go first, because nobody should be sent to content that
 * is gone. Then come new keys, repairs, and refreshes. Within a lane the newest goes first: others ask for content that has just
 * arrived, and the last of ten thousand keys can wait a second more.
 */
export class Schedule {
  /** How many keys have been due to be announced again so far. */
  refreshed = 0
  readonly #map: NetworkMap
  readonly #topicOf: (key: Key) => Uint8Array
  readonly #options: ScheduleOptions
  readonly #random: () => number
  readonly #placements = new Map<Key, Placement>()
  /** The part that is announced again next, and when. */
  #part = 0
  #partAt = 0
  readonly #lanes: Record<Lane, Placement[]> = { withdrawals: [], fresh: [], repair: [], refresh: [] }
  #open: Open | undefined
  /** Placements whose announcement or withdrawal is not complete. */
  readonly #unsettled = new Set<Placement>()
  #settled = Promise.withResolvers<void>()

  constructor(map: NetworkMap, topicOf: (key: Key) => Uint8Array, random: () => number, options: ScheduleOptions) {
    this.#map = map
    this.#topicOf = topicOf
    this.#random = random
    this.#options = options
  }

  /** How many keys are kept announced. */
  get size(): number {
    let size = 0
    for (const { wanted } of this.#placements.values()) if (wanted) size++
    return size
  }

  /** How many keys wait for their announcement or withdrawal to be complete. */
  get waiting(): number {
    return this.#unsettled.size
  }

  /** The most urgent lane in which a placement waits; `undefined` if there is perhaps nothing to send before `refreshAt`. */
  get urgency(): Lane | undefined {
    return LANES.find((lane) => this.#isWaiting(lane))
  }

  /** When the next part of the key space is due to be announced again; infinite if there are no keys. */
  get refreshAt(): number {
    return this.#placements.size === 0 ? Number.POSITIVE_INFINITY : this.#partAt
  }

  advertise(keys: Iterable<Key>, now: number): void {
    const fresh: Placement[] = []
    if (this.#placements.size === 0) {
      // At random, or all nodes that start together would send to the same ones.
      this.#part = Math.floor(this.#random() * PARTS)
      this.#partAt = now + this.#options.refreshPeriod / PARTS
    }
    for (const key of keys) {
      let placement = this.#placements.get(key)
      if (placement?.wanted) continue
      if (placement === undefined) {
        placement = new Placement(key, this.#topicOf(key), now)
        this.#placements.set(key, placement)
      }
      placement.wanted = true
      placement.since = now
      this.#unsettled.add(placement)
      fresh.push(placement)
    }
    this.#moveAll(fresh, 'fresh')
  }

  withdraw(keys: Iterable<Key>): void {
    const gone: Placement[] = []
    for (const key of keys) {
      const placement = this.#placements.get(key)
      if (placement?.wanted !== true) continue
      placement.wanted = false
      this.#unsettled.add(placement)
      gone.push(placement)
    }
    this.#moveAll(gone, 'withdrawals')
  }

  /** The next request, which counts as sent from now on; `undefined` if there is nothing to send now. */
  next(now: number): Task | undefined {
    for (let looked = 0; looked < MOST_LOOKED_AT; looked++) {
      const lane = this.urgency ?? this.#refresh(now)
      if (lane === undefined) return undefined
      if (this.#open?.lane !== lane) this.#open = this.#gather(lane)
      const { byNode, placements: opened } = this.#open
      const task = this.#nextOf(byNode)
      if (byNode.size === 0) {
        for (const placement of opened) {
          this.#move(placement, undefined)
          this.#settle(placement)
        }
      }
      if (task !== undefined) return task
    }
    return undefined
  }

  /** Notes how a task ended; `undefined` means without an answer, so that it may have arrived. */
  landed({ placements, node, kind }: Task, outcome: Refused | undefined, sentAt: number): void {
    this.#open = undefined
    const isLost = this.#map.get(node) !== node
    for (const [index, placement] of placements.entries()) {
      const isFull = outcome?.includes(index) === true
      const isDone = outcome?.includes(index) === false
      placement.landed(node)
      if (isDone && kind === 'store') placement.stored(node, sentAt)
      if (isFull) placement.refusedBy(node)
      // A node that was lost meanwhile holds no copy any more.
      if ((isDone && kind === 'remove') || isLost) placement.dropped(node)
      // Whether the placement is complete can only be said when no request is under way. A failed request is tried again at
      // once.
      if (isDone && placement.wanted && placement.isFlying) continue
      if (this.#targets(placement).length > 0) this.#queue(placement)
      else this.#settle(placement)
    }
  }

  /** Call this when a node has joined. It must hold the keys that now have it among their closest nodes. */
  joined(node: KnownNode): void {
    this.#queueWhere((placement) => this.#concerns(placement, node))
  }

  /** Call this when a node is lost. Its keys, and those that it should have got, must go to other nodes. */
  left(node: KnownNode): void {
    this.#queueWhere((placement) => placement.dropped(node) || this.#concerns(placement, node))
  }

  /** Call this when a silent node answers again. Requests that waited for it can be sent. */
  recovered(node: KnownNode): void {
    this.#queueWhere((placement) => {
      if (!placement.wanted) return placement.remaining().includes(node)
      return this.#concerns(placement, node) && placement.missing([node]).length > 0
    })
  }

  /** Call this when a node has lost its keys. It needs all of them again. */
  forgot(node: KnownNode): void {
    this.#queueWhere((placement) => placement.wanted && placement.forgotten(node))
  }

  /**
   * Waits until all changes have reached the swarm.
   *
   * @throws the signal's reason if it aborts first
   */
  async settled(signal: AbortSignal): Promise<void> {
    while (this.#unsettled.size > 0) await unlessAborted(this.#settled.promise, signal)
  }

  /** Forgets all keys. */
  clear(): void {
    for (const lane of LANES) this.#lanes[lane] = []
    this.#placements.clear()
    this.#unsettled.clear()
    this.#settled.resolve()
  }

  /** The nodes to which a request for a placement must be sent. */
  #targets(placement: Placement): KnownNode[] {
    if (!placement.wanted) return placement.remaining()
    const { replicas } = this.#options
    // Nodes without room are replaced by the next ones, at most by as many again, because lookups ask no farther.
    const count = replicas + Math.min(placement.refusals, replicas)
    const closest = this.#map.closest(placement.topic, count)
    const farthest = closest.at(-1)
    const isFull = farthest !== undefined && closest.length === count
    placement.reach = isFull ? prefixDistance(farthest.prefix, placement.prefix) : 0xff_ff_ff_ff
    return placement.missing(closest)
  }

  /** Whether the node must hold the key. */
  #concerns({ wanted, prefix, reach }: Placement, node: KnownNode): boolean {
    return wanted && prefixDistance(prefix, node.prefix) <= reach
  }

  /** The first placements of a lane, and the nodes for each. */
  #gather(lane: Lane): Open {
    const waiting = this.#lanes[lane]
    const placements = new Set<Placement>()
    for (let at = waiting.length - 1; at >= 0 && placements.size < MOST_TOPICS; at--) {
      const placement = waiting[at] as Placement
      if (placement.lane === lane) placements.add(placement)
    }
    const byNode = new Map<KnownNode, Placement[]>()
    for (const placement of placements) {
      for (const node of this.#targets(placement)) {
        const others = byNode.get(node)
        if (others === undefined) byNode.set(node, [placement])
        else others.push(placement)
      }
    }
    return { lane, placements, byNode }
  }

  /** The next request for the gathered placements. */
  #nextOf(byNode: Open['byNode']): Task | undefined {
    for (const [node, placements] of byNode) {
      byNode.delete(node)
      // A silent node is skipped until it answers or is lost.
      if (node.strikes > 0) continue
      const kind = placements[0]?.wanted ? 'store' : 'remove'
      for (const placement of placements) placement.sent(node, kind)
      return { placements, node, kind }
    }
    return undefined
  }

  /** Queues the placements that are due to be announced again. @returns the lane in which they wait, if there are any */
  #refresh(now: number): Lane | undefined {
    if (this.refreshAt > now) return undefined
    const { refreshPeriod, recordLife } = this.#options
    const first = this.#part
    const passed = Math.floor(((now - this.#partAt) * PARTS) / refreshPeriod) + 1
    this.#part = (first + passed) % PARTS
    this.#partAt += (passed * refreshPeriod) / PARTS
    const due: Placement[] = []
    for (const placement of this.#placements.values()) {
      const part = Math.floor((placement.prefix / PREFIXES) * PARTS)
      if (!placement.wanted || (part - first + PARTS) % PARTS >= passed) continue
      placement.expire(now - recordLife)
      if (now - placement.since < YOUNG * refreshPeriod) continue
      placement.renew(now)
      due.push(placement)
    }
    this.refreshed += due.length
    this.#moveAll(due, 'refresh')
    return this.urgency
  }

  #queueWhere(isNeeded: (placement: Placement) => boolean): void {
    for (const placement of this.#placements.values()) if (isNeeded(placement)) this.#queue(placement)
  }

  /** Queues a placement, unless it already waits in a more urgent lane. */
  #queue(placement: Placement): void {
    const news: Lane = this.#unsettled.has(placement) ? 'fresh' : 'repair'
    const lane = placement.wanted ? news : 'withdrawals'
    if (placement.lane === undefined || LANES.indexOf(lane) < LANES.indexOf(placement.lane)) this.#move(placement, lane)
    this.#open = undefined
  }

  /**
   * Moves placements in the order of the key space. Neighbours go to the same nodes, so one request carries many of them, and
   * few tokens are needed at a time.
   */
  #moveAll(placements: Placement[], lane: Lane): void {
    placements.sort((a, b) => b.prefix - a.prefix)
    for (const placement of placements) this.#move(placement, lane)
  }

  /** Puts a placement into a lane. The lane in which it waited before skips it. */
  #move(placement: Placement, lane: Lane | undefined): void {
    placement.lane = lane
    if (lane !== undefined) this.#lanes[lane].push(placement)
    this.#open = undefined
  }

  #isWaiting(name: Lane): boolean {
    const lane = this.#lanes[name]
    while (lane.length > 0 && lane.at(-1)?.lane !== name) lane.pop()
    return lane.length > 0
  }

  #settle(placement: Placement): void {
    if (placement.isFlying) return
    if (placement.wanted ? !placement.isHeld : placement.holders.length > 0) return
    if (!placement.wanted) {
      // The key may have been advertised again since, with another placement.
      if (this.#placements.get(placement.key) === placement) this.#placements.delete(placement.key)
      this.#move(placement, undefined)
    }
    if (!this.#unsettled.delete(placement) || this.#unsettled.size > 0) return
    this.#settled.resolve()
    this.#settled = Promise.withResolvers()
  }
}
