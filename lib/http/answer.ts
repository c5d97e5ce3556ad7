import type { Descriptor } from '../oci/descriptor.ts'
import type { Digest } from '../oci/digest.ts'
import type { OciError } from '../oci/error.ts'
import { etagOf, matchesIfNoneMatch, matchesIfRange } from '../oci/etag.ts'
import type { BlobTarget, ManifestTarget } from '../oci/path.ts'
import { type ByteRange, formatContentRange, formatUnsatisfiedRange, lengthOf, shortRange } from '../oci/range.ts'

/** Where the content of an answer came from: this node, or another one. */
export type Source = 'local' | 'peer'

export const SOURCE_HEADER = 'X-Swarmirror-Source'

/** Status and headers of an answer with the whole content, or with a part of it. */
export function contentHead(
  descriptor: Descriptor,
  range: ByteRange | undefined,
  source: Source,
): { readonly status: number; readonly headers: Record<string, string> } {
  const length = range === undefined ? descriptor.size : lengthOf(range)
  return {
    status: range === undefined ? 200 : 206,
    headers: {
      'Content-Type': descriptor.mediaType,
      'Content-Length': String(length),
      'Docker-Content-Digest': descriptor.digest,
      ETag: etagOf(descriptor.digest),
      'Accept-Ranges': 'bytes',
      ...(range === undefined ? {} : { 'Content-Range': formatContentRange(range, descriptor.size) }),
      [SOURCE_HEADER]: source,
    },
  }
}

/** An error in the form of the distribution-spec. */
export function errorAnswer(error: OciError, headers: Record<string, string> = {}): Response {
  const body = JSON.stringify(error)
  const length = String(Buffer.byteLength(body))
  return new Response(body, {
    status: error.status,
    headers: { 'Content-Type': 'application/json', 'Content-Length': length, ...headers },
  })
}

/** RFC 9110's answer to a Range of which no byte exists. */
export function unsatisfiableAnswer(size: number): Response {
  return new Response(null, {
    status: 416,
    headers: { 'Content-Range': formatUnsatisfiedRange(size), 'Content-Length': '0' },
  })
}

/**
 * The 304 that is due if the client has the content already. Only for GET: containerd takes a 304 to a HEAD for a failed
 * pull, and nobody else needs one.
 */
export function notModifiedAnswer(request: Request, digest: Digest): Response | undefined {
  if (request.method === 'HEAD' || !matchesIfNoneMatch(request.headers.get('if-none-match'), digest)) return undefined
  return new Response(null, { status: 304, headers: { ETag: etagOf(digest) } })
}

/**
 * The Range header in its shortest form, unless it does not count: for a manifest, with an If-Range of other content, and
 * for HEAD (RFC 9110, section 14.2: a server must ignore it for every method but GET).
 */
export function rangeHeaderOf(target: ManifestTarget | BlobTarget, request: Request): string | undefined {
  if (target.kind === 'manifest' || request.method === 'HEAD') return undefined
  if (!matchesIfRange(request.headers.get('if-range'), target.digest)) return undefined
  return shortRange(request.headers.get('range'))
}
