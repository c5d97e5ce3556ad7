import { unlessAborted } from '../platform/abort.ts'

/**
 * Content that somebody is writing into a store at this moment. Nobody has verified these bytes: a store does that when
 * it commits them. An arrival that does not grow may be what a writer left that died, until the store removes it.
 */
export interface Arrival {
  /** The size of the whole in bytes, if the writer has told it. */
  readonly size: number | undefined
  /** How many bytes are there. It grows, and falls where the writer starts over. */
  readonly written: number
  /** How it ended; never rejects. The store holds what is `committed`, though perhaps some milliseconds later. */
  readonly ended: Promise<'committed' | 'aborted'>
  /** Resolves as soon as there are more than `bytes`, or it has ended; rejects with the signal's reason when that aborts. */
  grown(bytes: number, signal: AbortSignal): Promise<void>
  /**
   * The bytes from `offset` on, each as soon as it is written, to the end of what is committed. A chunk is good until the next one.
   *
   * @throws {ArrivalError} while iterating, if it is aborted or closed; the signal's reason when that aborts
   */
  read(offset: number, signal: AbortSignal): AsyncIterable<Uint8Array>
  /** Frees what it holds open. Those who still read fail, and what has not ended counts as aborted. */
  close(): void
}

/** An arrival has no more to give, though it is not complete. */
export class ArrivalError extends Error {
  override readonly name = 'ArrivalError'
}

/** How far an {@link Arrival} has come, for those who wait for more of it. */
export class Growth {
  readonly ended: Promise<'committed' | 'aborted'>
  readonly #end: (end: 'committed' | 'aborted') => void
  #state: 'growing' | 'committed' | 'aborted' = 'growing'
  #written = 0
  #changed = Promise.withResolvers<void>()

  constructor() {
    const { promise, resolve } = Promise.withResolvers<'committed' | 'aborted'>()
    this.ended = promise
    this.#end = resolve
  }

  get state(): 'growing' | 'committed' | 'aborted' {
    return this.#state
  }

  /** In bytes. */
  get written(): number {
    return this.#written
  }

  set written(bytes: number) {
    this.#written = bytes
    this.#tell()
  }

  /** The first end counts. */
  finish(end: 'committed' | 'aborted'): void {
    if (this.#state !== 'growing') return
    this.#state = end
    this.#end(end)
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
