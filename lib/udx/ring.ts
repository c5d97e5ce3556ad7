import { seqAdd, seqDistance } from './packet.ts'

/** Places in a new ring: a power of two, so that a number's place is its lowest bits. */
const MIN_SIZE = 64

/** Values by packet number, for a range of numbers that moves forward: a ring that grows when the range does not fit. */
export class SeqRing<T> {
  #slots = new Array<T | undefined>(MIN_SIZE).fill(undefined)

  /** Stores the value of a number that has none. `base` is the lowest number in use. @returns false if it has one. */
  set(seq: number, value: T, base: number): boolean {
    const size = seqDistance(base, seq) + 1
    if (size > this.#slots.length) this.#grow(size, base)
    const index = seq & (this.#slots.length - 1)
    if (this.#slots[index] !== undefined) return false
    this.#slots[index] = value
    return true
  }

  /** The value of a number, which must lie in the range in use. */
  get(seq: number): T | undefined {
    return this.#slots[seq & (this.#slots.length - 1)]
  }

  delete(seq: number): void {
    this.#slots[seq & (this.#slots.length - 1)] = undefined
  }

  clear(): void {
    this.#slots = []
  }

  #grow(needed: number, base: number): void {
    const old = this.#slots
    let size = MIN_SIZE
    while (size < needed) size *= 2
    this.#slots = new Array<T | undefined>(size).fill(undefined)
    for (let i = 0; i < old.length; i++) {
      const seq = seqAdd(base, i)
      this.#slots[seq & (size - 1)] = old[seq & (old.length - 1)]
    }
  }
}
