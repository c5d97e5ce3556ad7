import { PeerError } from '../peers/error.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import { VerificationError } from './verify.ts'

/** How often content is looked for at most of which the first chunk is the last and wrong: each time from others. */
const MOST_ATTEMPTS = 3

interface WithBody {
  readonly body: ByteSource | null
}

/**
 * An answer of which the first chunk is there, so that what peers promise and then do not give is a miss, as long as the
 * client has been told nothing.
 *
 * @param find gives an answer, asking nobody again that gave wrong content
 * @param signal ends it; the body is ended by cancelling it
 * @returns `undefined` when no peer gives a byte
 * @throws the signal's reason
 */
export async function begun<T extends object>(
  find: () => Promise<T | (T & WithBody) | undefined>,
  signal: AbortSignal,
): Promise<T | undefined> {
  for (let attempt = 1; ; attempt++) {
    const answer = await find()
    if (answer === undefined || !('body' in answer) || answer.body === null) return answer
    const { body } = answer
    const cancel = () => void body.cancel()
    signal.addEventListener('abort', cancel, { once: true })
    try {
      signal.throwIfAborted()
      const first = await body.next()
      return { ...answer, body: after(first, body) }
    } catch (error) {
      cancel()
      signal.throwIfAborted()
      if (error instanceof VerificationError && attempt < MOST_ATTEMPTS) continue
      if (error instanceof PeerError || error instanceof VerificationError) return undefined
      throw error
    } finally {
      signal.removeEventListener('abort', cancel)
    }
  }
}

/** The rest of a source, with its first chunk before it. */
function after(first: Uint8Array | undefined, source: ByteSource): ByteSource {
  let isNew = true
  return {
    next() {
      if (!isNew) return source.next()
      isNew = false
      return Promise.resolve(first)
    },
    cancel() {
      isNew = false
      return source.cancel()
    },
  }
}
