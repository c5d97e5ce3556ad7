import type { Context } from 'hono'
import type { Descriptor, Digest } from '../oci/digest.ts'
import { etagOf, matchesIfMatch, matchesIfNoneMatch, matchesIfRange } from '../oci/etag.ts'
import type { ContentTarget } from '../oci/path.ts'
import { type ByteRange, formatContentRange, formatUnsatisfiedRange, lengthOf, shortRange } from '../oci/range.ts'
import type { DoorEnv, GivenContent } from './env.ts'

/** Status and headers of an answer with the whole content, or with a part of it; notes what the answer gives. */
export function contentHead(
  c: Context<DoorEnv>,
  descriptor: Descriptor,
  range: ByteRange | undefined,
  source: GivenContent['source'],
): { readonly status: number; readonly headers: Record<string, string> } {
  const length = range === undefined ? descriptor.size : lengthOf(range)
  c.set('content', { source, bytes: c.req.method === 'HEAD' ? 0 : length, descriptor })
  return {
    status: range === undefined ? 200 : 206,
    headers: {
      'Content-Type': descriptor.mediaType,
      'Content-Length': String(length),
      'Docker-Content-Digest': descriptor.digest,
      ETag: etagOf(descriptor.digest),
      'Accept-Ranges': 'bytes',
      ...(range === undefined ? {} : { 'Content-Range': formatContentRange(range, descriptor.size) }),
      'X-Swarmirror-Source': source,
    },
  }
}

/** RFC 9110's answer to a Range that holds no byte of the content. */
export function unsatisfiableAnswer(size: number): Response {
  return new Response(null, {
    status: 416,
    headers: { 'Content-Range': formatUnsatisfiedRange(size), 'Content-Length': '0' },
  })
}

/**
 * The answer that the request's conditions call for instead of content that there is (RFC 9110, section 13.2.2): 412 if
 * If-Match names other content, 304 if If-None-Match names this content. A HEAD gets no 304: containerd takes that for a
 * failed pull, and nobody else needs one.
 */
export function conditionalAnswer({ method, headers }: Request, digest: Digest): Response | undefined {
  const etag = { ETag: etagOf(digest) }
  if (!matchesIfMatch(headers.get('if-match'), digest)) {
    return new Response(null, { status: 412, headers: { ...etag, 'Content-Length': '0' } })
  }
  if (method === 'HEAD' || !matchesIfNoneMatch(headers.get('if-none-match'), digest)) return undefined
  return new Response(null, { status: 304, headers: etag })
}

/**
 * The Range header in its shortest form, unless it does not count: for a manifest, with an If-Range of other content, and
 * for HEAD (RFC 9110, section 14.2: a server must ignore it for every method but GET).
 */
export function rangeHeaderOf(target: ContentTarget, { method, headers }: Request): string | undefined {
  if (target.kind === 'manifest' || method === 'HEAD') return undefined
  if (!matchesIfRange(headers.get('if-range'), target.digest)) return undefined
  return shortRange(headers.get('range'))
}
