/**
 * A stream of exactly `length` bytes from an iterable that gives pieces. It begins to read when it is read, and reads no
 * further than that. Missing and surplus bytes are an error; the surplus is not handed on.
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
  const abort = () => end(signal.reason)
  const end = (reason?: unknown) => {
    signal.removeEventListener('abort', abort)
    ending.abort(reason)
  }
  signal.addEventListener('abort', abort)
  if (signal.aborted) abort()
  let pieces: AsyncIterator<Uint8Array> | undefined
  let missing = length

  async function next(): Promise<Uint8Array | undefined> {
    ending.signal.throwIfAborted()
    pieces ??= begin(ending.signal)[Symbol.asyncIterator]()
    const { done, value } = await pieces.next()
    if (done === true) {
      if (missing > 0) throw new Error(`expected ${length} bytes, ${missing} are missing at the end`)
      return undefined
    }
    if (value.length > missing) throw new Error(`expected ${length} bytes, got more`)
    missing -= value.length
    return value
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
