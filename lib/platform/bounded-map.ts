/** A map that drops the entry that was set longest ago when it holds too many. */
export class BoundedMap<V, K extends string = string> {
  readonly #entries = new Map<K, V>()
  readonly #capacity: number

  /** @param capacity how many entries there may be */
  constructor(capacity: number) {
    this.#capacity = capacity
  }

  get(key: K): V | undefined {
    return this.#entries.get(key)
  }

  set(key: K, value: V): void {
    this.#entries.delete(key)
    this.#entries.set(key, value)
    const oldest = this.#entries.keys().next()
    if (this.#entries.size > this.#capacity && !oldest.done) this.#entries.delete(oldest.value)
  }

  /** @returns whether the key was there */
  delete(key: K): boolean {
    return this.#entries.delete(key)
  }

  entries(): Iterable<[K, V]> {
    return this.#entries.entries()
  }

  keys(): Iterable<K> {
    return this.#entries.keys()
  }

  values(): Iterable<V> {
    return this.#entries.values()
  }
}
