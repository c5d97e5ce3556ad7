import type { Digest } from './digest.ts'

/** The strong entity tag of content: its digest in quotes. The content of a digest never changes. */
export function etagOf(digest: Digest): string {
  return `"${digest}"`
}

/**
 * Whether an If-Match header lets a request count for this content: there is none, or it is `*`, or a list with our entity
 * tag by strong comparison (RFC 9110, section 13.1.1).
 */
export function matchesIfMatch(header: string | null, digest: Digest): boolean {
  return header === null || header.trim() === '*' || tagsOf(header).includes(etagOf(digest))
}

/**
 * Whether an If-None-Match header names this content: it is `*`, or a list with our entity tag by weak comparison (RFC
 * 9110, section 13.1.2). No header names nothing.
 */
export function matchesIfNoneMatch(header: string | null, digest: Digest): boolean {
  if (header === null) return false
  return header.trim() === '*' || tagsOf(header).some((tag) => tag.replace(/^W\//, '') === etagOf(digest))
}

/**
 * Whether an If-Range header lets the Range header count: there is none, or it is our entity tag by strong comparison
 * (RFC 9110, section 13.1.5). A weak tag, another tag and a date ask for the whole content.
 */
export function matchesIfRange(header: string | null, digest: Digest): boolean {
  return header === null || header.trim() === etagOf(digest)
}

function tagsOf(header: string): string[] {
  return header.split(',').map((tag) => tag.trim())
}
