import type { Descriptor, Digest } from '../oci/digest.ts'
import type { Key } from '../oci/key.ts'
import type { ContentTarget } from '../oci/path.ts'
import { type ByteRange, lengthOf } from '../oci/range.ts'
import type { TaggedReference } from '../oci/reference.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Arrival } from './arrival.ts'

/** Keys that are held from now on, and keys that are no longer held. No key is in both. */
export interface ContentChange {
  readonly added: readonly Key[]
  readonly removed: readonly Key[]
}

/**
 * The content of this node. A miss is `undefined`; a store that cannot be asked throws. `describe` and `open` say what is there
 * at that moment, even if `watch` has not told it yet.
 */
export interface ContentStore {
  /** The digest of a tag that this node knows. */
  resolve(reference: TaggedReference, signal: AbortSignal): Promise<Digest | undefined>

  /** Size and media type of the digest, if held. */
  describe(digest: Digest, signal: AbortSignal): Promise<Descriptor | undefined>

  /**
   * The bytes of the digest, or exactly those of `range`, which must lie within its size; `undefined` if the content is not (or
   * no longer) held. The caller reads the source to its end or cancels it.
   */
  open(digest: Digest, range: ByteRange | undefined, signal: AbortSignal): Promise<ByteSource | undefined>

  /** The arrival of a digest that is being written, if this store can tell. The caller closes it. */
  arriving(digest: Digest): Arrival | undefined

  /**
   * Says that this node is about to pull the digest for an image that the policy admits. The store cannot know that before an
   * image names the digest, and without it {@link watch} would not tell the digest as soon as it is complete. Missing where
   * content comes with its image.
   *
   * @param kind what it is asked for as; if missing, its bytes tell whether it is a manifest
   */
  expect?(digest: Digest, kind?: ContentTarget['kind']): void

  /**
   * First all keys that are held now (possibly none), and then every change. Ends when the signal aborts, without throwing, and
   * goes on if the store is down for a while.
   */
  watch(signal: AbortSignal): AsyncIterable<ContentChange>

  /** Whether the store can be asked now. */
  readonly isUp: boolean

  close(): Promise<void>
}

/**
 * Where the bytes of a range begin in content of `size` bytes, and how many they are; all of them without a range.
 *
 * @throws {RangeError} unless the range lies within the content, as {@link ContentStore.open} demands
 */
export function partOf(range: ByteRange | undefined, size: number): { start: number; length: number } {
  if (range === undefined) return { start: 0, length: size }
  const { start, end } = range
  const isWithin = Number.isSafeInteger(start) && Number.isSafeInteger(end) && 0 <= start && start <= end && end < size
  if (!isWithin) throw new RangeError(`bytes ${start}-${end} are not within content of ${size} bytes`)
  return { start, length: lengthOf(range) }
}
