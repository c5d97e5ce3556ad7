import { createHash, type Hash } from 'node:crypto'
import { algorithmOf, type Digest, hexOf } from '../oci/digest.ts'
import { PeerError } from '../peers/error.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Clock } from '../platform/clock.ts'

/**
 * Milliseconds in which content that is read completely must arrive, however steadily it drips. Until then its client has no
 * byte, and upstream is there.
 */
const WHOLE_TIMEOUT = 10_000

/** Thrown if bytes do not match their digest. */
export class VerificationError extends Error {
  override readonly name = 'VerificationError'

  constructor(digest: Digest) {
    super(`the bytes do not match ${digest}`)
  }
}

/** Hashes bytes as they pass, and compares the result with their digest. */
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

  /** An independent verifier that has seen the same bytes. */
  copy(): Verifier {
    return new Verifier(this.#digest, this.#hash.copy())
  }

  /**
   * Call this once, after the last byte.
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
 * The bytes of a source, hashed as they pass. The last chunk is passed on only if the digest is right, so no client ever gets
 * all of wrong content.
 *
 * @param length of the source in bytes
 * @param verifier has seen the bytes before the source; missing if they are not verified
 * @param ended called once with how it ended, and awaited before the reader gets the end
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
