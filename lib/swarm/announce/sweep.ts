import { firstWhere } from '../dht/id-tree.ts'
import type { Placement } from './placement.ts'

/** How many prefixes there are. */
const RING = 2 ** 32
/** The part of a period by which a lap may be shorter, so that nodes that start together drift apart. */
const JITTER = 0.1

/**
 * Passes all placements in the order of the key space, lap after lap, at an even pace. Neighbours in the key space have the
 * same closest nodes, so few nodes, and few tokens, are needed at a time.
 */
export class Sweep {
  readonly #period: number
  readonly #random: () => number
  #order: Placement[] = []
  /** The index of the next placement. */
  #next = 0
  readonly #gone = new Set<Placement>()
  #lapBegan = 0
  #lap: number

  /** @param period the most milliseconds of a lap */
  constructor(period: number, random: () => number) {
    this.#period = period
    this.#random = random
    this.#lap = this.#lapTime()
  }

  /** When the next placement is due, or the next lap begins. */
  get dueAt(): number {
    const next = this.#order[this.#next]
    if (this.#order.length === 0) return Number.POSITIVE_INFINITY
    return this.#lapBegan + ((next?.prefix ?? RING) / RING) * this.#lap
  }

  add(placements: readonly Placement[], now: number): void {
    // The first lap begins at a random place.
    if (this.#order.length === 0) this.#lapBegan = now - this.#random() * this.#lap
    const reached = ((now - this.#lapBegan) / this.#lap) * RING
    const position = Math.min(reached, this.#order[this.#next]?.prefix ?? RING)
    // One by one, because a hundred thousand are too many arguments for one call.
    for (const placement of placements) this.#order.push(placement)
    this.#order.sort((a, b) => a.prefix - b.prefix)
    this.#next = this.#firstFrom(position)
  }

  delete(placement: Placement): void {
    this.#gone.add(placement)
  }

  /** The next due placement, which counts as passed; `undefined` if none is due. */
  take(now: number): Placement | undefined {
    this.#clear()
    if (this.dueAt > now) return undefined
    const placement = this.#order[this.#next]
    if (placement !== undefined) {
      this.#next++
      return placement
    }
    const began = this.#lapBegan + this.#lap
    this.#lap = this.#lapTime()
    // After a standstill of several laps, one lap covers everything.
    this.#lapBegan = Math.max(began, now - this.#lap)
    this.#next = 0
    return this.take(now)
  }

  /** Removes all deleted placements at once, because it must walk through all. */
  #clear(): void {
    if (this.#gone.size === 0) return
    const passed = this.#order.slice(0, this.#next).filter((placement) => !this.#gone.has(placement))
    const ahead = this.#order.slice(this.#next).filter((placement) => !this.#gone.has(placement))
    this.#next = passed.length
    this.#order = [...passed, ...ahead]
    this.#gone.clear()
  }

  #lapTime(): number {
    return this.#period * (1 - this.#random() * JITTER)
  }

  /** The index of the first placement at or after that prefix. */
  #firstFrom(prefix: number): number {
    return firstWhere(0, this.#order.length, (at) => (this.#order[at] as Placement).prefix >= prefix)
  }
}
