/** The last few measurements of something, for quantiles of what is usual now. */
export class Samples {
  readonly #values: number[] = []
  readonly #capacity: number
  #next = 0

  /** @param capacity how many of the last measurements count */
  constructor(capacity: number) {
    this.#capacity = capacity
  }

  get size(): number {
    return this.#values.length
  }

  add(value: number): void {
    this.#values[this.#next] = value
    this.#next = (this.#next + 1) % this.#capacity
  }

  /** The value below which the given part (0 to 1) of the measurements lies; `undefined` without any. */
  quantile(part: number): number | undefined {
    const sorted = this.#values.toSorted((a, b) => a - b)
    return sorted[Math.min(sorted.length - 1, Math.floor(part * sorted.length))]
  }
}
