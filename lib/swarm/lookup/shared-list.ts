/** A list that grows until it ends, and that any number of readers follow, each at its own speed. */
export class SharedList<T> {
  readonly #items: T[] = []
  #ended = false
  #news = Promise.withResolvers<void>()

  get length(): number {
    return this.#items.length
  }

  get ended(): boolean {
    return this.#ended
  }

  add(item: T): void {
    this.#items.push(item)
    this.#tell()
  }

  end(): void {
    this.#ended = true
    this.#tell()
  }

  /** All items from the first one on, until the list ends or the signal aborts. */
  async *read(signal: AbortSignal): AsyncIterable<T> {
    const aborted = Promise.withResolvers<void>()
    const abort = () => aborted.resolve()
    signal.addEventListener('abort', abort, { once: true })
    try {
      for (let at = 0; !signal.aborted; ) {
        const item = this.#items[at]
        if (at < this.#items.length) {
          at++
          yield item as T
        } else if (this.#ended) {
          return
        } else {
          await Promise.race([this.#news.promise, aborted.promise])
        }
      }
    } finally {
      signal.removeEventListener('abort', abort)
    }
  }

  #tell(): void {
    const { resolve } = this.#news
    this.#news = Promise.withResolvers()
    resolve()
  }
}
