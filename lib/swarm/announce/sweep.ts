import type { Placement } from './placement.ts'

/** All prefixes. */
const RING = 2 ** 32
/** Part of a period by which a lap may be shorter, so that nodes that started together drift apart. */
const JITTER = 0.1

/**
 * Goes through the key space again and again, evenly: what is passed is due. Neighbours in the key space have their closest
 * nodes in common, so that few nodes, and few tokens, are needed at a time.
 */
export class Sweep {
  readonly #period: number
  readonly #random: () => number
  #order: Placement[] = []
  #sorted = true
  #position: number
  #lap: number
  #last: number

  /** @param period milliseconds of a lap at most */
  constructor(period: number, now: number, random: () => number) {
    this.#period = period
    this.#random = random
    this.#position = random() * RING
    this.#lap = this.#nextLap()
    this.#last = now
  }

  add(placements: readonly Placement[]): void {
    // One by one: as arguments of one call, a hundred thousand are too many.
    for (const placement of placements) this.#order.push(placement)
    this.#sorted = false
  }

  remove(gone: ReadonlySet<Placement>): void {
    this.#order = this.#order.filter((placement) => !gone.has(placement))
  }

  /** Up to so many placements next to that prefix. */
  near(prefix: number, count: number): Placement[] {
    this.#sort()
    const from = Math.max(this.#firstFrom(prefix) - Math.floor(count / 2), 0)
    return this.#order.slice(from, from + count)
  }

  /** Milliseconds by which it is behind. */
  lag(now: number): number {
    return Math.max(now - this.#last, 0)
  }

  /** What has become due since the last time, in order; less if that is more than `most`, and then it stays behind. */
  advance(now: number, most: number): Placement[] {
    this.#sort()
    const due: Placement[] = []
    // One lap brings everything.
    let left = Math.min((now - this.#last) / this.#lap, 1) * RING
    while (left > 0 && due.length < most) {
      const step = Math.min(left, RING - this.#position)
      const from = this.#firstFrom(this.#position)
      const to = this.#firstFrom(this.#position + step)
      const next = this.#order[from + most - due.length]
      if (to - from > most - due.length && next !== undefined) {
        due.push(...this.#order.slice(from, from + most - due.length))
        left -= next.prefix - this.#position
        this.#position = next.prefix
        break
      }
      due.push(...this.#order.slice(from, to))
      left -= step
      this.#position += step
      if (this.#position < RING) continue
      this.#position = 0
      this.#lap = this.#nextLap()
    }
    this.#last = now - (Math.max(left, 0) / RING) * this.#lap
    return due
  }

  #sort(): void {
    if (!this.#sorted) this.#order.sort((a, b) => a.prefix - b.prefix)
    this.#sorted = true
  }

  #nextLap(): number {
    return this.#period * (1 - this.#random() * JITTER)
  }

  #firstFrom(prefix: number): number {
    let low = 0
    let high = this.#order.length
    while (low < high) {
      const middle = (low + high) >> 1
      if ((this.#order[middle]?.prefix ?? 0) >= prefix) high = middle
      else low = middle + 1
    }
    return low
  }
}
