/** Bytes `start` to `end` of some content, both inclusive and counted from 0, as in HTTP's Content-Range. */
export interface ByteRange {
  readonly start: number
  readonly end: number
}

/** What a Range header asks for. */
export type RequestedRange =
  | { readonly kind: 'whole' }
  | { readonly kind: 'part'; readonly range: ByteRange }
  | { readonly kind: 'unsatisfiable' }

/**
 * What a Content-Range header says: a part of content of `size` bytes (if the header tells it), or that there is no such part.
 */
export type ContentRange =
  | { readonly kind: 'part'; readonly range: ByteRange; readonly size: number | undefined }
  | { readonly kind: 'unsatisfied'; readonly size: number }

const WHOLE: RequestedRange = { kind: 'whole' }
const UNSATISFIABLE: RequestedRange = { kind: 'unsatisfiable' }

/**
 * Reads a Range header for content of `size` bytes (RFC 9110, section 14). Everything that a server may ignore is `whole`: no
 * header, another unit, a malformed value, or several ranges, which no client that pulls images asks for. An end beyond the
 * content is cut. `bytes=0-`, and any suffix of empty content, ask for everything, and are `whole` too: if containerd 2 gets a
 * part as the answer to `bytes=0-`, it fetches the other parts in parallel, and its pull fails when one of them breaks off.
 */
export function parseRange(header: string | null, size: number): RequestedRange {
  const spec = specOf(header)
  if (spec === undefined) return WHOLE
  if (spec.first === '') return suffixRange(Number(spec.last), size)
  const start = Number(spec.first)
  const end = spec.last === '' ? Number.POSITIVE_INFINITY : Number(spec.last)
  if (end < start) return WHOLE
  if (start === 0 && (spec.last === '' || size === 0)) return WHOLE
  if (start >= size) return UNSATISFIABLE
  return { kind: 'part', range: { start, end: Math.min(end, size - 1) } }
}

/**
 * The shortest header that asks for the same range; `undefined` if the header asks for the whole content, whatever its size.
 */
export function shortRange(header: string | null): string | undefined {
  const spec = specOf(header)
  if (spec === undefined || parseRange(header, Number.MAX_SAFE_INTEGER).kind === 'whole') return undefined
  const short = (digits: string) => (digits === '' ? '' : String(Math.min(Number(digits), Number.MAX_SAFE_INTEGER)))
  return `bytes=${short(spec.first)}-${short(spec.last)}`
}

/** The digits before and after the hyphen of a single range. One of the two may be empty. */
function specOf(header: string | null): { readonly first: string; readonly last: string } | undefined {
  const set = /^[ \t]*bytes=(.*)$/i.exec(header ?? '')?.[1]
  // A list may have empty elements, which are ignored (RFC 9110, section 5.6.1.2).
  const specs = set?.split(',').filter((spec) => !/^[ \t]*$/.test(spec)) ?? []
  const spec = specs.length === 1 ? /^[ \t]*([0-9]*)-([0-9]*)[ \t]*$/.exec(specs[0] ?? '') : null
  const [, first = '', last = ''] = spec ?? []
  return first === '' && last === '' ? undefined : { first, last }
}

/** The last `length` bytes; all of them if there are fewer. */
function suffixRange(length: number, size: number): RequestedRange {
  if (length === 0) return UNSATISFIABLE
  if (size === 0) return WHOLE
  return { kind: 'part', range: { start: Math.max(0, size - length), end: size - 1 } }
}

/** How many bytes the range holds. */
export function lengthOf(range: ByteRange): number {
  return range.end - range.start + 1
}

/** The Content-Range of a 206 answer with the given part of content of `size` bytes. */
export function formatContentRange(range: ByteRange, size: number): string {
  return `bytes ${range.start}-${range.end}/${size}`
}

/** The Content-Range of a 416 answer about content of `size` bytes. */
export function formatUnsatisfiedRange(size: number): string {
  return `bytes */${size}`
}

/**
 * Reads a Content-Range header of a 206 or 416 answer; `undefined` if it is missing or makes no sense (another unit, an end
 * before the start or beyond the size, numbers that lose precision).
 */
export function parseContentRange(header: string | null): ContentRange | undefined {
  const match = /^[ \t]*bytes (?:([0-9]+)-([0-9]+)|\*)\/([0-9]+|\*)[ \t]*$/i.exec(header ?? '')
  if (match === null) return undefined
  const [, first, last, total = '*'] = match
  const size = total === '*' ? undefined : Number(total)
  if (size !== undefined && !Number.isSafeInteger(size)) return undefined
  if (first === undefined || last === undefined) return size === undefined ? undefined : { kind: 'unsatisfied', size }
  const range = { start: Number(first), end: Number(last) }
  if (!Number.isSafeInteger(range.end) || range.end < range.start) return undefined
  if (size !== undefined && range.end >= size) return undefined
  return { kind: 'part', range, size }
}
