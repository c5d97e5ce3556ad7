/** A map that drops the entry that was set longest ago when it holds too many. */
export class BoundedMap<V, K extends string = string> extends Map<K, V> {
  readonly #capacity: number

  /** @param capacity how many entries there may be */
  constructor(capacity: number) {
    super()
    this.#capacity = capacity
  }

  override set(key: K, value: V): this {
    this.delete(key)
    super.set(key, value)
    const oldest = this.keys().next()
    if (this.size > this.#capacity && !oldest.done) this.delete(oldest.value)
    return this
  }
}
