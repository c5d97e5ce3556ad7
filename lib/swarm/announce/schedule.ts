import type { Key } from '../../oci/key.ts'
import { unlessAborted } from '../../platform/abort.ts'
import type { KnownNode, NetworkMap } from '../dht/network-map.ts'
import { MOST_TOPICS, type StoreOutcome } from '../dht/rpc.ts'
import { prefixDistance } from '../node.ts'
import { LANES, type Lane, Placement } from './placement.ts'
import { Sweep } from './sweep.ts'

export interface ScheduleOptions {
  /** On how many nodes a key is stored: those closest to its topic. */
  readonly replicas: number
  /** Milliseconds within which everything is announced again. */
  readonly refreshPeriod: number
  /** Milliseconds for which a node keeps a record. */
  readonly recordLife: number
}

/** A request to be sent: for up to {@link MOST_TOPICS} keys that are to come to that node, or to go from it. */
export interface Task {
  readonly placements: readonly Placement[]
  readonly node: KnownNode
  readonly kind: 'store' | 'remove'
}

/** Placements of one lane that are worked on together, since one request to a node may be for many of them. */
interface Open {
  readonly lane: Lane
  readonly placements: ReadonlySet<Placement>
  /** Those that are still to be sent, by the node. */
  readonly byNode: Map<KnownNode, Placement[]>
}

/** Part of the period for which keys that are due wait for others, which go to the same nodes: half a minute. */
export const GATHERING = 1 / 40
/** What was announced within this part of the period is not due yet when the sweep comes by. */
const YOUNG = 0.1
/** New keys that come together, at most, to overtake all others: more than an image has digests. */
const FEW = 64
/** Groups of placements that one call looks at before it gives up. */
const MOST_LOOKED_AT = 4

/**
 * What has to be announced and withdrawn, where, and in which order. It knows where each key is and where it has to be, and
 * answers what to send next; it neither sends nor waits itself.
 *
 * A placement waits in the lane of its most urgent reason. Withdrawals go first, since nobody should be sent to content that
 * is gone. A few new keys go before the many that a node has when it starts, those before repairs, and refreshes last. Within
 * a lane the newest goes first: others ask for what has just arrived, and the last of ten thousand keys can wait a second more.
 */
export class Schedule {
  readonly #map: NetworkMap
  readonly #topicOf: (key: Key) => Uint8Array
  readonly #options: ScheduleOptions
  readonly #placements = new Map<Key, Placement>()
  readonly #sweep: Sweep
  readonly #lanes: Record<Lane, Placement[]> = { withdrawals: [], express: [], fresh: [], repair: [], refresh: [] }
  #open: Open | undefined
  /** Placements whose announcement or withdrawal is not complete. */
  readonly #unsettled = new Set<Placement>()
  #settled = Promise.withResolvers<void>()
  #refreshed = 0

  constructor(map: NetworkMap, topicOf: (key: Key) => Uint8Array, random: () => number, options: ScheduleOptions) {
    this.#map = map
    this.#topicOf = topicOf
    this.#options = options
    this.#sweep = new Sweep(options.refreshPeriod, random)
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

  /** How many keys have come to their turn to be announced again so far. */
  get refreshed(): number {
    return this.#refreshed
  }

  /** The most urgent lane in which a placement waits; `undefined` if there may be nothing to send before `refreshAt`. */
  get urgency(): Lane | undefined {
    return LANES.find((lane) => this.#isWaiting(lane))
  }

  /** When keys that are due to be announced again have gathered; infinite if there are none. */
  get refreshAt(): number {
    return this.#sweep.dueAt + GATHERING * this.#options.refreshPeriod
  }

  /** @param isNews whether these keys overtake others if they are few */
  advertise(keys: Iterable<Key>, isNews: boolean, now: number): void {
    const fresh: Placement[] = []
    const added: Placement[] = []
    for (const key of keys) {
      let placement = this.#placements.get(key)
      if (placement?.wanted) continue
      if (placement === undefined) {
        placement = new Placement(key, this.#topicOf(key), now)
        this.#placements.set(key, placement)
        added.push(placement)
      }
      placement.wanted = true
      placement.since = now
      this.#unsettled.add(placement)
      fresh.push(placement)
    }
    this.#moveAll(fresh, isNews && fresh.length <= FEW ? 'express' : 'fresh')
    if (added.length > 0) this.#sweep.add(added, now)
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

  /** What to send next, which counts as sent from here on; `undefined` if there is nothing to send now. */
  next(now: number): Task | undefined {
    for (let looked = 0; looked < MOST_LOOKED_AT; looked++) {
      const lane = this.urgency ?? this.#refresh(now)
      if (lane === undefined) return undefined
      if (this.#open?.lane !== lane) this.#open = this.#gather(lane)
      const { byNode, placements: opened } = this.#open
      const task = this.#nextOf(byNode)
      if (byNode.size === 0) {
        for (const placement of opened) this.#move(placement, undefined)
        for (const placement of opened) this.#settle(placement)
      }
      if (task !== undefined) return task
    }
    return undefined
  }

  /** Takes note of how a task ended; `undefined`: without an answer. */
  landed({ placements, node, kind }: Task, outcome: StoreOutcome | undefined, sentAt: number): void {
    this.#open = undefined
    const isLost = this.#map.get(node) !== node
    for (const [index, placement] of placements.entries()) {
      const isAnswered = outcome !== undefined && outcome !== 'refused'
      const isFull = isAnswered && outcome.includes(index)
      const isDone = isAnswered && !isFull
      placement.landed(node)
      if (isDone && kind === 'store') placement.stored(node, sentAt)
      if (isFull) placement.refusedBy(node)
      // A node that was lost meanwhile holds nothing any more.
      if ((isDone && kind === 'remove') || isLost) placement.dropped(node)
      // Whether that was all can only be said once nothing is under way; a failure is tried again at once.
      if (isDone && placement.wanted && placement.isFlying) continue
      if (this.#targets(placement).length > 0) this.#queue(placement)
      else this.#settle(placement)
    }
  }

  /** A node has joined: it has to hold the keys that have it among their closest nodes now. */
  joined(node: KnownNode): void {
    this.#queueWhere((placement) => this.#concerns(placement, node))
  }

  /** A node is lost: what it held, or was still to be sent, is needed elsewhere. */
  left(node: KnownNode): void {
    this.#queueWhere((placement) => placement.dropped(node) || this.#concerns(placement, node))
  }

  /** A silent node answers again: what was kept back for it can be sent. */
  recovered(node: KnownNode): void {
    this.#queueWhere((placement) => {
      if (!placement.wanted) return placement.remaining().includes(node)
      return this.#concerns(placement, node) && placement.missing([node]).length > 0
    })
  }

  /** A node has lost what it was sent: it needs all of it again. */
  forgot(node: KnownNode): void {
    this.#queueWhere((placement) => placement.wanted && placement.forgotten(node))
  }

  /** Placements that the node should hold a copy of, among so many next to it in the key space. */
  near(node: KnownNode, count: number): Placement[] {
    return this.#sweep.near(node.prefix, count).filter((placement) => placement.wanted && placement.isAt(node))
  }

  /**
   * Waits until everything that is wanted has reached the swarm.
   *
   * @throws the signal's reason if it aborts first
   */
  async settled(signal: AbortSignal): Promise<void> {
    while (this.#unsettled.size > 0) await unlessAborted(this.#settled.promise, signal)
  }

  /** Forgets all keys. */
  clear(): void {
    for (const placement of this.#placements.values()) this.#sweep.delete(placement)
    for (const lane of LANES) this.#lanes[lane] = []
    this.#placements.clear()
    this.#unsettled.clear()
    this.#settled.resolve()
  }

  /** The nodes to which something has to be sent for a placement. */
  #targets(placement: Placement): KnownNode[] {
    if (!placement.wanted) return placement.remaining()
    const { replicas } = this.#options
    // Where nodes have no room, the next ones take their place, as many again at most: lookups ask no farther.
    const count = replicas + Math.min(placement.refusals, replicas)
    const closest = this.#map.closest(placement.topic, count)
    const farthest = closest.at(-1)
    const isFull = farthest !== undefined && closest.length === count
    placement.reach = isFull ? prefixDistance(farthest.prefix, placement.prefix) : 0xff_ff_ff_ff
    return placement.missing(closest)
  }

  /** Whether the node is among those that have to hold the key. */
  #concerns({ wanted, prefix, reach }: Placement, node: KnownNode): boolean {
    return wanted && prefixDistance(prefix, node.prefix) <= reach
  }

  /** The first placements of a lane, and where each is to go. */
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

  /** The next request of those that were gathered. */
  #nextOf(byNode: Open['byNode']): Task | undefined {
    for (const [node, placements] of byNode) {
      byNode.delete(node)
      // A silent node is passed over until it answers or is lost.
      if (node.strikes > 0) continue
      const kind = placements[0]?.wanted ? 'store' : 'remove'
      for (const placement of placements) placement.sent(node, kind)
      return { placements, node, kind }
    }
    return undefined
  }

  /** Queues the placements whose turn to be announced again has come. @returns the lane in which they wait, if there are any */
  #refresh(now: number): Lane | undefined {
    const { refreshPeriod, recordLife } = this.#options
    if (this.refreshAt > now) return undefined
    for (let placement = this.#sweep.take(now); placement !== undefined; placement = this.#sweep.take(now)) {
      if (!placement.wanted) continue
      this.#refreshed++
      placement.expire(now - recordLife)
      if (now - placement.since < YOUNG * refreshPeriod) continue
      placement.renew(now)
      this.#move(placement, 'refresh')
    }
    return this.urgency
  }

  #queueWhere(isNeeded: (placement: Placement) => boolean): void {
    for (const placement of this.#placements.values()) if (isNeeded(placement)) this.#queue(placement)
  }

  /** Queues a placement, unless it waits for something more urgent already. */
  #queue(placement: Placement): void {
    const news: Lane = this.#unsettled.has(placement) ? 'fresh' : 'repair'
    const lane = placement.wanted ? news : 'withdrawals'
    if (placement.lane === undefined || LANES.indexOf(lane) < LANES.indexOf(placement.lane)) this.#move(placement, lane)
    this.#open = undefined
  }

  /** In the order of the key space: neighbours go to the same nodes, so one request is for many, and few tokens are needed at a time. */
  #moveAll(placements: Placement[], lane: Lane): void {
    placements.sort((a, b) => b.prefix - a.prefix)
    for (const placement of placements) this.#move(placement, lane)
  }

  /** Puts a placement into a lane, wherever it waited before: there it is passed over. */
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
      // By now the key may be advertised again, with another placement.
      if (this.#placements.get(placement.key) === placement) this.#placements.delete(placement.key)
      this.#move(placement, undefined)
      this.#sweep.delete(placement)
    }
    if (!this.#unsettled.delete(placement) || this.#unsettled.size > 0) return
    this.#settled.resolve()
    this.#settled = Promise.withResolvers()
  }
}
