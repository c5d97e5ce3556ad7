import { PeerError } from '../peers/error.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Clock } from '../platform/clock.ts'

export interface WholeBounds {
  /** Bytes that it may have. */
  readonly limit: number
  /** Milliseconds within which all of it must be there. */
  readonly timeout: number
}

/**
 * Reads the whole of a body that is small enough to be held, and ends it in every other case.
 *
 * @param size in bytes, as its head declares
 * @param signal ends it
 * @throws {PeerError} when it is larger than it may be, breaks off, has another size, or takes too long
 * @throws the signal's reason
 */
export async function readWhole(
  body: ByteSource,
  size: number,
  { limit, timeout }: WholeBounds,
  clock: Clock,
  signal: AbortSignal,
): Promise<Uint8Array> {
  let isLate = false
  const cancel = () => void body.cancel()
  const expire = () => {
    isLate = true
    cancel()
  }
  const cancelTimer = clock.after(timeout, expire)
  signal.addEventListener('abort', cancel, { once: true })
  try {
    signal.throwIfAborted()
    if (size > limit) throw new PeerError(`${size} bytes, at most ${limit}`, { failure: 'invalid' })
    return await collect(body, size)
  } catch (error) {
    cancel()
    signal.throwIfAborted()
    throw isLate ? new PeerError(`not whole within ${timeout} ms`, { failure: 'silent', cause: error }) : error
  } finally {
    cancelTimer()
    signal.removeEventListener('abort', cancel)
  }
}

async function collect(body: ByteSource, size: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(size)
  let length = 0
  while (length < size) {
    const chunk = await body.next()
    if (chunk === undefined) throw new PeerError(`the body ended ${size - length} bytes early`)
    if (chunk.length > size - length) throw new PeerError('more bytes than declared', { failure: 'invalid' })
    bytes.set(chunk, length)
    length += chunk.length
  }
  return bytes
}
