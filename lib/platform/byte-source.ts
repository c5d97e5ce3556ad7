/** Bytes pulled one chunk at a time: a `ReadableStream` without its queues and its two promises for each chunk. */
export interface ByteSource {
  /**
   * The next chunk, never empty; `undefined` after the last. Call it again only when the last call is over: the next chunk
   * may then use the memory of this one, so copy what you keep.
   */
  next(): Promise<Uint8Array | undefined>
  /** Ends it and releases what it holds; a `next` under way ends too, in any way. May be called more than once. */
  cancel(): Promise<void>
}

/**
 * The body of a response of which the client gets the head alone: then the connection ends with FIN, and nobody hears of a
 * failure. Any other reader of such a response sees it fail.
 */
export const NO_BODY: ByteSource = {
  next: () => Promise.reject(new Error('the body ends before it begins')),
  cancel: () => Promise.resolve(),
}

const sources = new WeakMap<Response, ByteSource>()

/**
 * A response with the bytes of a source: a standard `Response` that anything can read, which our own servers recognise
 * to take the bytes from the source itself.
 */
export function sourceResponse(source: ByteSource, init: ResponseInit): Response {
  const response = new Response(streamOf(source), init)
  sources.set(response, source)
  return response
}

/** The body of a response, which nobody else may read then: the source that it was made of, or else its stream. */
export function byteSourceOf(response: Response): ByteSource | undefined {
  return sources.get(response) ?? (response.body === null ? undefined : streamSource(response.body))
}

function streamSource(body: ReadableStream<Uint8Array>): ByteSource {
  const reader = body.getReader()
  return { next: async () => (await reader.read()).value, cancel: () => reader.cancel() }
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
