import { createHash, type Hash } from 'node:crypto'
import { algorithmOf, type Digest, hexOf } from '../oci/digest.ts'
import { PeerError } from '../peers/error.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Clock } from '../platform/clock.ts'

/**
 * Milliseconds within which all of what is read whole must be there, however steadily it drips: its client has no byte of it before,
 * and upstream is there.
 */
const WHOLE_TIMEOUT = 10_000

/** Bytes that are not those of their digest. */
export class VerificationError extends Error {
  override readonly name = 'VerificationError'

  constructor(digest: Digest) {
    super(`the bytes do not match ${digest}`)
  }
}

/** The digest of bytes as they pass. */
export class Verifier {
  readonly #digest: Digest
  readonly #hash: Hash

  constructor(digest: Digest, hash: Hash = createHash(algorithmOf(digest))) {
    this.#digest = digest
    this.#hash = hash
  }

  update(chunk: Uint8Array): void {
    this.#hash.update(chunk)
  }

  /** A verifier of its own that has seen the same bytes. */
  copy(): Verifier {
    return new Verifier(this.#digest, this.#hash.copy())
  }

  /**
   * Says that there are no more bytes. To be called once.
   *
   * @throws {VerificationError}
   */
  finish(): void {
    if (this.#hash.digest('hex') !== hexOf(this.#digest)) throw new VerificationError(this.#digest)
  }
}

/** @throws {VerificationError} */
export function verify(bytes: Uint8Array, digest: Digest): void {
  const verifier = new Verifier(digest)
  verifier.update(bytes)
  verifier.finish()
}

/** How a body ended. */
export type Ending = 'complete' | 'cancelled' | 'failed' | 'corrupt'

/**
 * The source's bytes, hashed as they pass. The last chunk is handed on only when the digest of all is right, so that
 * no client ever gets the whole of wrong content.
 *
 * @param length of the source in bytes
 * @param verifier has seen the bytes before these; missing if they are not verified
 * @param ended is told once how it ends, and waited for before anybody else hears of it
 */
export function verified(
  source: ByteSource,
  length: number,
  verifier: Verifier | undefined,
  ended: (ending: Ending) => Promise<void> | void,
): ByteSource {
  let left = length
  let isOver = false
  const end = async (ending: Ending) => {
    if (isOver) return
    isOver = true
    await ended(ending)
  }
  return {
    async next() {
      try {
        const chunk = await source.next()
        if (chunk !== undefined) {
          verifier?.update(chunk)
          left -= chunk.length
        }
        if (left <= 0 && !isOver) {
          verifier?.finish()
          await end('complete')
        }
        return chunk
      } catch (error) {
        await end(error instanceof VerificationError ? 'corrupt' : 'failed')
        throw error
      }
    },
    async cancel() {
      await end('cancelled')
      await source.cancel()
    },
  }
}

/**
 * All bytes of a source in one chunk.
 *
 * @param length of the source in bytes
 */
export function inOneChunk(source: ByteSource, length: number, clock: Clock): ByteSource {
  let isRead = length === 0
  return {
    async next() {
      if (isRead) return undefined
      isRead = true
      const bytes = new Uint8Array(length)
      const cancelTimer = clock.after(WHOLE_TIMEOUT, () => void source.cancel())
      try {
        for (let at = 0; at < length; ) {
          const chunk = await source.next()
          if (chunk === undefined) throw new PeerError(`the body ended ${length - at} bytes early`)
          bytes.set(chunk, at)
          at += chunk.length
        }
      } finally {
        cancelTimer()
      }
      return bytes
    },
    cancel: () => source.cancel(),
  }
}
