import type { Digest } from './digest.ts'

/** The strong entity tag of content: its digest in quotes. Content of a digest never changes, so nothing else is needed. */
export function etagOf(digest: Digest): string {
  return `"${digest}"`
}

/**
 * Whether an If-None-Match header names this content, so that a GET or HEAD may answer 304: `*`, or a list of entity tags
 * of which one is ours by weak comparison (RFC 9110, section 13.1.2). No header names nothing.
 */
export function matchesIfNoneMatch(header: string | null, digest: Digest): boolean {
  if (header === null) return false
  if (header.trim() === '*') return true
  const etag = etagOf(digest)
  return header.split(',').some((item) => item.trim().replace(/^W\//, '') === etag)
}

/**
 * Whether an If-Range header lets the Range header count: there is none, or it is our entity tag by strong comparison
 * (RFC 9110, section 13.1.5). A weak tag, another tag or a date mean that the whole content is to be sent.
 */
export function matchesIfRange(header: string | null, digest: Digest): boolean {
  return header === null || header.trim() === etagOf(digest)
}
