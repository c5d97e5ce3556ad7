/** A set of which one can wait to be empty. */
export class Pending<T> {
  readonly #items = new Set<T>()
  #waiters: (() => void)[] = []

  get size(): number {
    return this.#items.size
  }

  has(item: T): boolean {
    return this.#items.has(item)
  }

  add(item: T): void {
    this.#items.add(item)
  }

  delete(item: T): void {
    this.#items.delete(item)
    if (this.size === 0) this.#wake()
  }

  clear(): void {
    this.#items.clear()
    this.#wake()
  }

  /**
   * Waits until nothing is left.
   *
   * @throws the signal's reason if it aborts first
   */
  async empty(signal: AbortSignal): Promise<void> {
    while (this.size > 0) {
      signal.throwIfAborted()
      await new Promise<void>((resolve, reject) => {
        const aborted = () => reject(signal.reason)
        signal.addEventListener('abort', aborted, { once: true })
        this.#waiters.push(() => {
          signal.removeEventListener('abort', aborted)
          resolve()
        })
      })
    }
  }

  #wake(): void {
    const waiters = this.#waiters
    this.#waiters = []
    for (const wake of waiters) wake()
  }
}
