interface Flush {
  readonly offset: number
  readonly resolve: (flushed: boolean) => void
}

/** Those who wait until the peer has acknowledged all bytes up to an offset of the stream. */
export class Flushes {
  #waiting: Flush[] = []

  get waiting(): boolean {
    return this.#waiting.length > 0
  }

  /** Resolves with true when `offset` is acknowledged, with false if it never will be. Offsets come in ascending order. */
  add(offset: number): Promise<boolean> {
    return new Promise((resolve) => {
      this.#waiting.push({ offset, resolve })
    })
  }

  onAcknowledged(offset: number): void {
    let flush = this.#waiting[0]
    while (flush !== undefined && flush.offset <= offset) {
      this.#waiting.shift()
      flush.resolve(true)
      flush = this.#waiting[0]
    }
  }

  close(): void {
    for (const flush of this.#waiting) flush.resolve(false)
    this.#waiting = []
  }
}
