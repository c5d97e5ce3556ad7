/** Bytes pulled one chunk at a time: a `ReadableStream` without its queues and its two promises for each chunk. */
export interface ByteSource {
  /**
   * The next chunk, never empty; `undefined` after the last one. Call it again only after the last call has settled. The next
   * chunk may use the memory of this one, so copy bytes that you keep.
   */
  next(): Promise<Uint8Array | undefined>
  /** Ends the source and releases its resources; a `next` under way settles, either way. May be called more than once. */
  cancel(): Promise<void>
}

/**
 * The body of a response whose client gets only the head, and then the end of the connection (FIN). The server does not report
 * it as an error. Any other reader of the response sees it fail.
 */
export const NO_BODY: ByteSource = {
  next: () => Promise.reject(new Error('the body ends before it begins')),
  cancel: () => Promise.resolve(),
}

const sources = new WeakMap<Response, ByteSource>()

/**
 * A response with the bytes of a source. Anything can read it as a standard `Response`; our own servers recognise it and read
 * the source directly.
 */
export function sourceResponse(source: ByteSource, init: ResponseInit): Response {
  const response = new Response(streamOf(source), init)
  sources.set(response, source)
  return response
}

/** The body of a response: the source that it was made of, or else its stream. Nobody else may read the response then. */
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

/** A source with its first chunk put back. */
export function putBack(first: Uint8Array | undefined, source: ByteSource): ByteSource {
  const waiting = [first]
  return {
    next: () => (waiting.length > 0 ? Promise.resolve(waiting.pop()) : source.next()),
    cancel() {
      waiting.length = 0
      return source.cancel()
    },
  }
}
