import type { Content } from '../../lib/oci/make-image.ts'
import { type Arrival, ArrivalError, Growth } from '../../lib/store/arrival.ts'

/** Writes content into a memory store, as many bytes as a test wants. */
export class MemoryWriter {
  readonly content: Content
  readonly #done: (isCommitted: boolean) => void
  readonly #readers = new Set<Growth>()
  #written = 0

  /** @param done called once, when the content is committed or aborted */
  constructor(content: Content, done: (isCommitted: boolean) => void) {
    this.content = content
    this.#done = done
  }

  /** Writes until this many bytes are there. */
  write(bytes: number): void {
    this.#written = bytes
    for (const growth of this.#readers) growth.written = bytes
  }

  commit(): void {
    this.write(this.content.bytes.length)
    this.#done(true)
    for (const growth of this.#readers) growth.finish('committed')
  }

  abort(): void {
    this.#done(false)
    for (const growth of this.#readers) growth.finish('aborted')
  }

  arrival(): Arrival {
    const { bytes } = this.content
    const growth = new Growth()
    const readers = this.#readers
    growth.written = this.#written
    readers.add(growth)
    let closed = false
    return {
      size: bytes.length,
      get written() {
        return growth.written
      },
      ended: growth.ended,
      grown: (count, signal) => growth.grown(count, signal),
      async *read(offset, signal) {
        for (let at = offset; ; ) {
          await growth.grown(at, signal)
          if (closed || growth.state === 'aborted') throw new ArrivalError('its writer has given up')
          if (at >= growth.written) return
          const piece = bytes.slice(at, growth.written)
          at += piece.length
          yield piece
        }
      },
      close() {
        closed = true
        growth.finish('aborted')
        readers.delete(growth)
      },
    }
  }
}
