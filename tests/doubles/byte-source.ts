import type { ByteSource } from '../../lib/platform/byte-source.ts'

/** A source to which a test gives a chunk for each one that is asked for. */
export class TestSource implements ByteSource {
  /** How many chunks were asked for. */
  asked = 0
  cancelled = false
  #waiting: PromiseWithResolvers<Uint8Array | undefined> | undefined

  next(): Promise<Uint8Array | undefined> {
    this.asked++
    this.#waiting = Promise.withResolvers()
    return this.#waiting.promise
  }

  async cancel(): Promise<void> {
    this.cancelled = true
    this.fail(new Error('cancelled'))
  }

  give(chunk: Uint8Array | undefined): void {
    this.#waiting?.resolve(chunk)
  }

  fail(error: unknown): void {
    this.#waiting?.reject(error)
    this.#waiting?.promise.catch(() => undefined)
  }
}

/**
 * A source of these chunks, which tells how many were read and whether it was cancelled. It is as hard on its readers as the
 * contract allows: it overwrites a chunk when the next one is asked for.
 */
export function sourceOf(
  chunks: readonly Uint8Array[],
): ByteSource & { readonly read: number; readonly cancelled: boolean } {
  let read = 0
  let cancelled = false
  let lent: Uint8Array | undefined
  return {
    get read() {
      return read
    },
    get cancelled() {
      return cancelled
    },
    async next() {
      lent?.fill(0xee)
      const chunk = chunks[read++]
      lent = chunk === undefined ? undefined : new Uint8Array(chunk)
      return lent
    },
    async cancel() {
      cancelled = true
    },
  }
}

/** Cuts bytes into chunks of that length. */
export function cut(bytes: Uint8Array, length: number): Uint8Array[] {
  const chunks: Uint8Array[] = []
  for (let at = 0; at < bytes.length; at += length) chunks.push(bytes.subarray(at, at + length))
  return chunks
}
