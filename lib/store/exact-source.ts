import { OVER, onAbort } from '../platform/abort.ts'
import type { ByteSource } from '../platform/byte-source.ts'

/**
 * Exactly `length` bytes from an iterable of pieces. It begins with the first read, and reads nothing ahead. Missing or surplus
 * bytes are an error, and surplus bytes are never passed on.
 *
 * @param begin makes the iterable, which must end when its signal aborts: when the source is cancelled or fails, or `signal`
 *   aborts
 */
export function exactSource(
  begin: (signal: AbortSignal) => AsyncIterable<Uint8Array>,
  length: number,
  signal: AbortSignal,
): ByteSource {
  const ending = new AbortController()
  const following = onAbort(signal, () => ending.abort(signal.reason))
  let pieces: AsyncIterator<Uint8Array> | undefined
  let missing = length

  function end(reason: unknown): void {
    following[Symbol.dispose]()
    ending.abort(reason)
  }

  return {
    async next() {
      try {
        ending.signal.throwIfAborted()
        pieces ??= begin(ending.signal)[Symbol.asyncIterator]()
        for (;;) {
          const { done, value } = await pieces.next()
          missing -= done === true ? 0 : value.length
          if (missing < 0) throw new Error(`expected ${length} bytes, got more`)
          if (done === true) break
          if (value.length > 0) return value
        }
        if (missing > 0) throw new Error(`expected ${length} bytes, ${missing} are missing at the end`)
        end(OVER)
        return undefined
      } catch (error) {
        end(error)
        throw error
      }
    },
    async cancel() {
      end(OVER)
    },
  }
}
