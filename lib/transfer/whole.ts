import { PeerError } from '../peers/error.ts'
import { onAbort } from '../platform/abort.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Clock } from '../platform/clock.ts'

export interface WholeBounds {
  /** Bytes that it may have. */
  readonly limit: number
  /** Milliseconds within which a byte must come. */
  readonly stallTimeout: number
  readonly clock: Clock
  /** Told of bytes as they come. */
  readonly onBytes?: (bytes: number) => void
}

/**
 * Milliseconds within which all of it must be there: a client waits for it, and no other peer can take over in the middle. The
 * largest manifest needs a second at 4 MB/s; usual ones have a few KiB.
 */
const WHOLE_TIMEOUT = 5_000

/**
 * Reads the whole of a body that is small enough to be held, and ends it in any case.
 *
 * @param size in bytes, as its head declares
 * @param signal ends it
 * @throws {PeerError} when it is larger than it may be, breaks off, has another size, or takes too long
 * @throws the signal's reason
 */
export async function readWhole(
  body: ByteSource,
  size: number,
  { limit, stallTimeout, clock, onBytes }: WholeBounds,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const deadline = clock.now() + WHOLE_TIMEOUT
  let isLate = false
  const wait = () =>
    clock.after(Math.min(stallTimeout, deadline - clock.now()), () => {
      isLate = true
      void body.cancel()
    })
  let cancelTimer = wait()
  using _ = onAbort(signal, () => void body.cancel())
  try {
    signal.throwIfAborted()
    if (size > limit) throw new PeerError(`${size} bytes, at most ${limit}`, { failure: 'invalid' })
    return await gather(body, size, (bytes) => {
      onBytes?.(bytes)
      cancelTimer()
      cancelTimer = wait()
    })
  } catch (error) {
    signal.throwIfAborted()
    if (isLate) throw new PeerError('not whole in time', { failure: 'silent', cause: error })
    throw error
  } finally {
    cancelTimer()
    void body.cancel()
  }
}

/** The same bytes in one chunk. */
export function inOneChunk(source: ByteSource, length: number): ByteSource {
  let isRead = length === 0
  return {
    async next() {
      if (isRead) return undefined
      isRead = true
      return await gather(source, length)
    },
    cancel: () => source.cancel(),
  }
}

/**
 * All bytes of a source, and no more of it.
 *
 * @param length of the source in bytes
 * @param onBytes told of bytes as they come
 * @throws {PeerError} when it ends before that, or gives more
 */
async function gather(source: ByteSource, length: number, onBytes?: (bytes: number) => void): Promise<Uint8Array> {
  const bytes = new Uint8Array(length)
  for (let at = 0; at < length; ) {
    const chunk = await source.next()
    if (chunk === undefined) throw new PeerError(`the body ended ${length - at} bytes early`)
    if (chunk.length > length - at) throw new PeerError('more bytes than declared', { failure: 'invalid' })
    bytes.set(chunk, at)
    at += chunk.length
    onBytes?.(chunk.length)
  }
  return bytes
}
