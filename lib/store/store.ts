import type { Descriptor, Digest } from '../oci/digest.ts'
import type { Key } from '../oci/key.ts'
import type { ByteRange } from '../oci/range.ts'
import type { TaggedReference } from '../oci/reference.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Arrival } from './arrival.ts'

/** Keys that are held from now on, and keys that are no longer. A key is never in both. */
export interface ContentChange {
  readonly added: readonly Key[]
  readonly removed: readonly Key[]
}

/**
 * What this node has. Misses are `undefined`; a store that cannot be asked throws. `describe` and `open` agree with what
 * is really there at that moment, whatever `watch` has told so far.
 */
export interface ContentStore {
  /** The digest of a tag that this node knows. */
  resolve(reference: TaggedReference, signal: AbortSignal): Promise<Digest | undefined>

  /** Size and media type of the digest, if held. */
  describe(digest: Digest, signal: AbortSignal): Promise<Descriptor | undefined>

  /**
   * The bytes of the digest, or exactly those of `range`, which must lie within its size, to be read to the end or cancelled;
   * `undefined` if the content is not (or no longer) held.
   */
  open(digest: Digest, range: ByteRange | undefined, signal: AbortSignal): Promise<ByteSource | undefined>

  /** The digest while it is being written, if this store can tell. The caller closes it. */
  arriving(digest: Digest): Arrival | undefined

  /**
   * Announces that this node is about to pull the digest, as part of an image that the policy admits: until an image
   * names it, nothing else says so. {@link watch} then tells it as soon as it is complete. Missing where content comes
   * with its image.
   */
  expect?(digest: Digest): void

  /**
   * What is held now (the first change, possibly empty), then what changes, for as long as it takes. Ends when the signal
   * aborts, without throwing; survives a store that goes away and comes back.
   */
  watch(signal: AbortSignal): AsyncIterable<ContentChange>

  /** Whether the store can be asked at this moment; the reason in words if not. */
  readonly health: { readonly ok: true } | { readonly ok: false; readonly reason: string }

  close(): Promise<void>
}

/**
 * Insists on a range that lies within content of `size` bytes, as {@link ContentStore.open} demands of its callers.
 *
 * @throws {RangeError} otherwise
 */
export function assertWithin({ start, end }: ByteRange, size: number): void {
  if (Number.isSafeInteger(start) && Number.isSafeInteger(end) && 0 <= start && start <= end && end < size) return
  throw new RangeError(`bytes ${start}-${end} are not within content of ${size} bytes`)
}
