/** Bytes that are pulled one chunk at a time: what a `ReadableStream` is for, without its queues and its two promises a chunk. */
export interface ByteSource {
  /**
   * The next chunk, never empty; `undefined` after the last. Not to be called while a call is under way. A chunk is good
   * until this is called again: its memory may be used for the next one, so who keeps chunks copies them.
   */
  next(): Promise<Uint8Array | undefined>
  /** Ends it and lets go of all that it holds; a `next` under way ends too, in any way. May be called more than once. */
  cancel(): Promise<void>
}

const sources = new WeakMap<Response, ByteSource>()

/**
 * A response with the bytes of a source. It is a standard `Response` that anything can read; a server of ours recognises
 * it and takes the bytes from the source itself.
 */
export function sourceResponse(source: ByteSource, init: ResponseInit): Response {
  const response = new Response(streamOf(source), init)
  sources.set(response, source)
  return response
}

/** The source behind a response of {@link sourceResponse}, if it is one and has not been wrapped by another. */
export function byteSourceOf(response: Response): ByteSource | undefined {
  return sources.get(response)
}

/** A source of bytes that are there already. */
export function bytesSource(bytes: Uint8Array): ByteSource {
  let rest = bytes.length > 0 ? bytes : undefined
  return {
    async next() {
      const chunk = rest
      rest = undefined
      return chunk
    },
    async cancel() {
      rest = undefined
    },
  }
}

function streamOf(source: ByteSource): ReadableStream<Uint8Array> {
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        const chunk = await source.next()
        if (chunk === undefined) controller.close()
        else controller.enqueue(new Uint8Array(chunk))
      },
      cancel: () => source.cancel(),
    },
    { highWaterMark: 0 },
  )
}
