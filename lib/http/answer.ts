import type { Context } from 'hono'
import type { Descriptor, Digest } from '../oci/digest.ts'
import type { ContentTarget } from '../oci/path.ts'
import { type ByteRange, formatContentRange, formatUnsatisfiedRange, lengthOf, shortRange } from '../oci/range.ts'
import type { DoorEnv, GivenContent } from './door.ts'

/** Status and headers of an answer with the whole content or with a range of it. Notes in the context what the answer gives. */
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

/** The 416 for a Range that has no byte of the content (RFC 9110, section 15.5.17). */
export function unsatisfiableAnswer(size: number): Response {
  return new Response(null, {
    status: 416,
    headers: { 'Content-Range': formatUnsatisfiedRange(size), 'Content-Length': '0' },
  })
}

/**
 * The answer that the request's conditions demand instead of the content (RFC 9110, section 13.2.2): 412 if If-Match names
 * other content by strong comparison, 304 if If-None-Match names this content by weak comparison. A HEAD never gets 304:
 * containerd would fail the pull, and no other client needs it.
 */
export function conditionalAnswer({ method, headers }: Request, digest: Digest): Response | undefined {
  const etag = etagOf(digest)
  if (!names(headers.get('if-match') ?? '*', [etag])) {
    return new Response(null, { status: 412, headers: { ETag: etag, 'Content-Length': '0' } })
  }
  if (method === 'HEAD' || !names(headers.get('if-none-match') ?? '', [etag, `W/${etag}`])) return undefined
  return new Response(null, { status: 304, headers: { ETag: etag } })
}

/** Whether a header is `*`, or a list with one of these entity tags. */
function names(header: string, etags: readonly string[]): boolean {
  return header === '*' || header.split(',').some((tag) => etags.includes(tag.trim()))
}

/**
 * The Range header in its shortest form; `undefined` where it is ignored: for a manifest, for HEAD (RFC 9110, section 14.2: a
 * server must ignore it for every method but GET), and for an If-Range that is not the content's entity tag by strong comparison
 * (section 13.1.5), such as a date.
 */
export function rangeHeaderOf(target: ContentTarget, { method, headers }: Request): string | undefined {
  if (target.kind === 'manifest' || method === 'HEAD') return undefined
  const etag = etagOf(target.digest)
  if ((headers.get('if-range') ?? etag) !== etag) return undefined
  return shortRange(headers.get('range'))
}

/** The strong entity tag of content: its digest in quotes, because the content of a digest never changes. */
function etagOf(digest: Digest): string {
  return `"${digest}"`
}
