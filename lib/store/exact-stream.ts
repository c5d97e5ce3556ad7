import { onAbort } from '../platform/abort.ts'

/**
 * A stream of exactly `length` bytes from an iterable that gives pieces. It begins to read when somebody reads it, and
 * reads nothing ahead. Missing and surplus bytes are an error, and nobody gets the surplus.
 *
 * @param begin makes the iterable, which must end with the signal it is given: that aborts when the stream is cancelled,
 *   fails, or `signal` aborts
 */
export function exactStream(
  begin: (signal: AbortSignal) => AsyncIterable<Uint8Array>,
  length: number,
  signal: AbortSignal,
): ReadableStream<Uint8Array> {
  const ending = new AbortController()
  const following = onAbort(signal, () => ending.abort(signal.reason))
  let pieces: AsyncIterator<Uint8Array> | undefined
  let missing = length

  function end(reason?: unknown): void {
    following[Symbol.dispose]()
    ending.abort(reason)
  }

  async function next(): Promise<Uint8Array | undefined> {
    ending.signal.throwIfAborted()
    pieces ??= begin(ending.signal)[Symbol.asyncIterator]()
    const { done, value } = await pieces.next()
    missing -= done === true ? 0 : value.length
    if (missing < 0) throw new Error(`expected ${length} bytes, got more`)
    if (done !== true) return value
    if (missing > 0) throw new Error(`expected ${length} bytes, ${missing} are missing at the end`)
    return undefined
  }

  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const piece = await next()
          if (piece !== undefined) return controller.enqueue(piece)
          controller.close()
          end()
        } catch (error) {
          end(error)
          throw error
        }
      },
      cancel: end,
    },
    // Nothing is read ahead: pieces are up to 1 MiB, and many streams may wait for slow readers.
    { highWaterMark: 0 },
  )
}
