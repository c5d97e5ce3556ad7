/** A map that forgets the entry that was set longest ago when there are too many. */
export class BoundedMap<V> {
  readonly #entries = new Map<string, V>()
  readonly #capacity: number

  /** @param capacity how many entries there may be */
  constructor(capacity: number) {
    this.#capacity = capacity
  }

  get(key: string): V | undefined {
    return this.#entries.get(key)
  }

  set(key: string, value: V): void {
    this.#entries.delete(key)
    this.#entries.set(key, value)
    const oldest = this.#entries.keys().next()
    if (this.#entries.size > this.#capacity && !oldest.done) this.#entries.delete(oldest.value)
  }

  delete(key: string): void {
    this.#entries.delete(key)
  }

  entries(): Iterable<[string, V]> {
    return this.#entries.entries()
  }

  values(): Iterable<V> {
    return this.#entries.values()
  }
}
