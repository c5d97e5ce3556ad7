import type { ByteRange } from '../oci/range.ts'

/**
 * Insists on a range that lies within content of `size` bytes, as {@link ContentStore.open} demands of its callers.
 *
 * @throws {RangeError} otherwise
 */
export function assertWithin({ start, end }: ByteRange, size: number): void {
  if (Number.isSafeInteger(start) && Number.isSafeInteger(end) && 0 <= start && start <= end && end < size) return
  throw new RangeError(`bytes ${start}-${end} are not within content of ${size} bytes`)
}
