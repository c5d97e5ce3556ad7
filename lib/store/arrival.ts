import { unlessAborted } from '../platform/abort.ts'

/**
 * Content that somebody is writing into a store. Nobody has verified these bytes yet: the store does that when it commits them.
 * If an arrival does not grow, its writer may have died, and the store removes it later.
 */
export interface Arrival {
  /** The size of the whole content in bytes, if the writer has told it. */
  readonly size: number | undefined
  /** How many bytes are there. The number grows, and falls if the writer starts over. */
  readonly written: number
  /** How the arrival ended; never rejects. After `committed` the store holds the content, perhaps some milliseconds later. */
  readonly ended: Promise<'committed' | 'aborted'>
  /**
   * Resolves as soon as more than `bytes` are there or the arrival has ended; rejects with the signal's reason when the signal
   * aborts.
   */
  grown(bytes: number, signal: AbortSignal): Promise<void>
  /**
   * The bytes from `offset` on, as soon as each is written, to the end of the content. A chunk is good until the next one.
   *
   * @throws {ArrivalError} while iterating, if the arrival is aborted or closed; the signal's reason when the signal aborts
   */
  read(offset: number, signal: AbortSignal): AsyncIterable<Uint8Array>
  /** Closes the files that it holds open. Reads that still run fail, and an arrival that has not ended counts as aborted. */
  close(): void
}

/** An arrival that gives no more bytes, although it is not complete. */
export class ArrivalError extends Error {
  override readonly name = 'ArrivalError'
}

/** How far an {@link Arrival} has come, for code that waits for more of it. */
export class Growth {
  readonly #ended = Promise.withResolvers<'committed' | 'aborted'>()
  readonly ended = this.#ended.promise
  #state: 'growing' | 'committed' | 'aborted' = 'growing'
  #written = 0
  #changed = Promise.withResolvers<void>()

  get state(): 'growing' | 'committed' | 'aborted' {
    return this.#state
  }

  /** In bytes. */
  get written(): number {
    return this.#written
  }

  set written(bytes: number) {
    if (bytes === this.#written) return
    this.#written = bytes
    this.#tell()
  }

  /** Only the first call counts. */
  finish(end: 'committed' | 'aborted'): void {
    if (this.#state !== 'growing') return
    this.#state = end
    this.#ended.resolve(end)
    this.#tell()
  }

  /** As {@link Arrival.grown}. */
  async grown(bytes: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted()
    while (this.#written <= bytes && this.#state === 'growing') await unlessAborted(this.#changed.promise, signal)
  }

  #tell(): void {
    this.#changed.resolve()
    this.#changed = Promise.withResolvers()
  }
}
