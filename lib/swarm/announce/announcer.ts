import type { Key } from '../../oci/key.ts'
import { type Clock, systemClock } from '../../platform/clock.ts'
import type { Contacts } from '../members/contacts.ts'
import { prefixDistance } from '../members/distance.ts'
import type { KnownNode } from '../members/network-map.ts'
import type { Sample } from '../members/scout.ts'
import { type AnnouncerFigures, type AnnouncerOptions, type RecordSource, withDefaults } from './announcer-options.ts'
import { Courier } from './courier.ts'
import { Lanes } from './lanes.ts'
import { Parked } from './parked.ts'
import { Pending } from './pending.ts'
import { type LaneName, Placement } from './placement.ts'
import { Samples } from './samples.ts'
import { Sweep } from './sweep.ts'

export { type AnnouncerOptions, REPLICAS } from './announcer-options.ts'

export interface AnnouncerDependencies {
  readonly contacts: Contacts
  readonly records: RecordSource
  readonly clock?: Clock
  readonly random?: () => number
}

/** What was announced within this part of the period is not due yet when the sweep comes by. */
const YOUNG = 0.1
/** Placements that wait to be refreshed while the sweep goes on. */
const MOST_WAITING = 200
/** New keys that come together, at most, to overtake all others: more than an image has digests. */
const FEW = 64
/** Part of the period in which a node is sent everything again once at most, however forgetful it is. */
const FORGIVING = 0.25

/**
 * Keeps a set of keys announced: each on the nodes closest to its topic, as the map knows them. New keys and withdrawals go
 * at once, the others again before they expire, evenly; when a node joins or is lost, what concerns it.
 */
export class Announcer {
  readonly #contacts: Contacts
  readonly #records: RecordSource
  readonly #clock: Clock
  readonly #options: ReturnType<typeof withDefaults>
  readonly #placements = new Map<Key, Placement>()
  /** Those that have not reached yet what is wanted of them. */
  readonly #unsettled = new Pending<Placement>()
  /** Deleted since the sweep went on. */
  readonly #gone = new Set<Placement>()
  readonly #parked = new Parked()
  readonly #lanes = new Lanes()
  readonly #sweep: Sweep
  readonly #samples: Samples
  readonly #courier: Courier
  #refreshed = 0
  #closed = false
  #cancel: () => void

  constructor(
    { contacts, records, clock = systemClock, random = Math.random }: AnnouncerDependencies,
    options: AnnouncerOptions = {},
  ) {
    this.#contacts = contacts
    this.#records = records
    this.#clock = clock
    this.#options = withDefaults(options)
    this.#sweep = new Sweep(this.#options.refreshPeriod, clock.now(), random)
    const forgot = (node: KnownNode) => this.#forgot(node)
    this.#samples = new Samples(
      { sweep: this.#sweep, records, clock, random, forgot },
      FORGIVING * this.#options.refreshPeriod,
    )
    this.#courier = new Courier(
      { contacts, records, lanes: this.#lanes, clock, work: (placement, room) => this.#work(placement, room) },
      options,
    )
    contacts.map.listen({
      joined: (node) => this.#joined(node),
      left: (node) => this.#left(node),
      recovered: (node) => this.#unpark(node),
    })
    this.#cancel = clock.after(this.#options.tick, () => this.#tick())
  }

  /** How many keys are kept announced. */
  get size(): number {
    let size = 0
    for (const { wanted } of this.#placements.values()) if (wanted) size++
    return size
  }

  get figures(): AnnouncerFigures {
    const lag = Math.max(this.#sweep.lag(this.#clock.now()) - this.#options.tick, 0)
    return { keys: this.size, waiting: this.#unsettled.size, refreshed: this.#refreshed, lag, ...this.#courier.counts }
  }

  advertise(keys: Iterable<Key>): void {
    if (this.#closed) return
    const now = this.#clock.now()
    const fresh: Placement[] = []
    const added: Placement[] = []
    for (const key of keys) {
      let placement = this.#placements.get(key)
      if (placement?.wanted) continue
      if (placement === undefined) {
        placement = new Placement(key, this.#records.topicOf(key), now)
        this.#placements.set(key, placement)
        added.push(placement)
      }
      placement.wanted = true
      placement.since = now
      this.#unsettled.add(placement)
      fresh.push(placement)
    }
    // In the order of the key space, so that few tokens are needed at a time.
    // With the first of all, many nodes may have just started.
    const isNews = fresh.length <= FEW && this.#courier.counts.stored > 0
    const lane = isNews ? 'express' : 'fresh'
    for (const placement of fresh.sort((a, b) => b.prefix - a.prefix)) this.#lanes.move(placement, lane)
    this.#sweep.add(added)
    this.#courier.go()
  }

  withdraw(keys: Iterable<Key>): void {
    for (const key of keys) {
      const placement = this.#placements.get(key)
      if (placement?.wanted !== true) continue
      placement.wanted = false
      this.#unsettled.add(placement)
      this.#lanes.move(placement, 'withdrawals')
    }
    this.#courier.go()
  }

  /** Something that the node should have of this one, if it is known to be so. */
  sampleOf(node: KnownNode): Sample | undefined {
    return this.#samples.of(node)
  }

  /**
   * Waits until everything that is wanted has reached the swarm.
   *
   * @throws the signal's reason if it aborts first
   */
  async settled(signal: AbortSignal): Promise<void> {
    await this.#unsettled.empty(signal)
  }

  /** Forgets all keys; requests that are under way may still arrive, but nothing new begins. */
  close(): void {
    this.#closed = true
    this.#cancel()
    this.#courier.close()
    this.#placements.clear()
    this.#unsettled.clear()
    this.#parked.clear()
  }

  #tick(): void {
    const now = this.#clock.now()
    const { refreshPeriod, recordLife, tick } = this.#options
    if (this.#gone.size > 0) this.#sweep.remove(this.#gone)
    this.#gone.clear()
    for (const placement of this.#sweep.advance(now, MOST_WAITING - this.#lanes.waiting('refresh'))) {
      if (!placement.wanted) continue
      this.#refreshed++
      placement.expire(now - recordLife)
      if (now - placement.since < YOUNG * refreshPeriod) continue
      placement.since = now
      this.#lanes.add(placement, 'refresh')
    }
    this.#courier.go()
    this.#cancel = this.#clock.after(tick, () => this.#tick())
  }

  /**
   * Sends what is to be sent of one placement, up to so many requests; for what is left it waits again.
   *
   * @returns how many requests that makes
   */
  #work(placement: Placement, room: number): number {
    if (this.#closed) return 0
    const nodes = placement.wanted ? this.#missing(placement) : placement.remaining()
    let sent = 0
    for (const node of nodes) {
      if (node.strikes > 0) {
        this.#parked.add(node, placement)
        continue
      }
      if (sent >= room) {
        this.#lanes.add(placement, this.#laneOf(placement))
        break
      }
      sent++
      void this.#courier.send(placement, node, placement.wanted ? 'store' : 'remove').then((isDone) => {
        this.#landed(placement, node, isDone)
      })
    }
    if (sent === 0) this.#settle(placement)
    return sent
  }

  #missing(placement: Placement): KnownNode[] {
    const targets = this.#contacts.map.closest(placement.topic, this.#options.replicas)
    const farthest = targets.at(-1)
    const isFull = farthest !== undefined && targets.length === this.#options.replicas
    placement.reach = isFull ? prefixDistance(farthest.prefix, placement.prefix) : 0xff_ff_ff_ff
    return placement.missing(targets)
  }

  #landed(placement: Placement, node: KnownNode, isDone: boolean): void {
    if (this.#closed) return
    // A node that was lost meanwhile holds nothing any more.
    if (this.#contacts.map.get(node) !== node) placement.dropped(node)
    const isOpen = placement.wanted ? !isDone : placement.remaining().length > 0
    if (isOpen) this.#queue(placement)
    else if (!placement.isFlying) this.#review(placement)
  }

  /** Once nothing is under way: whether that was all. */
  #review(placement: Placement): void {
    const left = placement.wanted ? this.#missing(placement) : placement.remaining()
    if (left.length > 0) this.#queue(placement)
    else this.#settle(placement)
  }

  #queue(placement: Placement): void {
    this.#lanes.add(placement, this.#laneOf(placement))
    this.#courier.go()
  }

  #laneOf(placement: Placement): LaneName {
    if (!placement.wanted) return 'withdrawals'
    return this.#unsettled.has(placement) ? 'fresh' : 'repair'
  }

  #settle(placement: Placement): void {
    if (placement.isFlying) return
    if (placement.wanted && !placement.isHeld) return
    if (!placement.wanted) {
      if (placement.holders.length > 0) return
      // By then the key may be advertised again, with another placement.
      if (this.#placements.get(placement.key) === placement) this.#placements.delete(placement.key)
      this.#lanes.remove(placement)
      this.#gone.add(placement)
    }
    this.#unsettled.delete(placement)
  }

  /** It concerns those keys that have it among their closest nodes now. */
  #joined(node: KnownNode): void {
    for (const placement of this.#placements.values()) {
      if (!placement.wanted || prefixDistance(placement.prefix, node.prefix) > placement.reach) continue
      this.#lanes.add(placement, this.#unsettled.has(placement) ? 'fresh' : 'repair')
    }
    this.#courier.go()
  }

  /** What it held is needed elsewhere. */
  #left(node: KnownNode): void {
    // What waited for it is for another one now.
    this.#unpark(node)
    for (const placement of this.#placements.values()) {
      if (placement.dropped(node)) this.#queue(placement)
    }
  }

  /** It is needed there as before. */
  #forgot(node: KnownNode): void {
    for (const placement of this.#placements.values()) {
      if (placement.wanted && placement.forgotten(node)) this.#queue(placement)
    }
  }

  #unpark(node: KnownNode): void {
    for (const placement of this.#parked.take(node)) this.#queue(placement)
  }
}
