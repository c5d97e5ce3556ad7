import { type Descriptor, parseDigest } from '../oci/digest.ts'
import { OciError } from '../oci/error.ts'
import { targetKey } from '../oci/key.ts'
import { isManifestMediaType, MANIFEST_SIZE_LIMIT } from '../oci/media-type.ts'
import type { BlobTarget, ManifestTarget } from '../oci/path.ts'
import { type ByteRange, lengthOf, parseContentRange, parseRange } from '../oci/range.ts'
import type { PeerClient } from '../peers/client.ts'
import { FOLLOWER_HEADER, type PeerCredentials } from '../peers/credentials.ts'
import { PeerError } from '../peers/error.ts'
import { addressOf } from '../platform/address.ts'
import type { ByteSource } from '../platform/byte-source.ts'
import type { Peer } from '../swarm/router.ts'

export interface PeerRequest {
  readonly target: ManifestTarget | BlobTarget
  readonly method: 'GET' | 'HEAD'
  /** The value of a Range header, for GET of a blob. */
  readonly range?: string | undefined
  /** The address of this node's own peer door, if the peer may send content that is still arriving there. */
  readonly follower?: string | undefined
}

/** Content that a peer sends. */
export interface PeerContentHead {
  readonly kind: 'content'
  readonly descriptor: Descriptor
  /** The range of the body; the whole content if missing. */
  readonly range: ByteRange | undefined
  readonly body: ByteSource
}

/** The answer of a peer that has the content. */
export type PeerHead = PeerContentHead | { readonly kind: 'unsatisfiable'; readonly size: number }

/** The answer of a peer that does not send the content. */
export type PeerRefusal = { readonly kind: 'missing' } | { readonly kind: 'busy'; readonly retryAfterMs: number }

/** Milliseconds after which a busy peer may be asked again if it does not say when. */
const RETRY_AFTER = 1_000
/** The part by which that time may be longer, so that nodes that were refused do not all come back at once. */
const JITTER = 0.25

/**
 * Asks one peer. Its answer counts only with the proof of the swarm key, because no digest protects the digest of a tag, a part
 * of a blob, or a 404. Without it a stranger could also win a race with a whole blob, or keep others waiting by saying that it
 * is busy.
 *
 * @param signal ends the call until its head is there
 * @throws {PeerError} if the peer cannot be reached, does not answer in time, or does not answer the question
 */
export async function ask(
  client: PeerClient,
  credentials: PeerCredentials,
  peer: Peer,
  request: PeerRequest,
  signal: AbortSignal,
): Promise<PeerHead | PeerRefusal> {
  const { target, method, range, follower } = request
  const ticket = credentials.ticket(targetKey(target), method, addressOf(peer))
  const headers = { ...ticket.headers, ...(range && { range }), ...(follower && { [FOLLOWER_HEADER]: follower }) }
  const { status, headers: head, body } = await client.call(peer, { method, path: pathOf(target), headers }, signal)
  try {
    if (!ticket.proves(status, head)) throw invalid(`status ${status} without the proof of the swarm key`)
    const answer = readAnswer(status, head, body, request)
    if (answer.kind !== 'content' || method === 'HEAD') await body.cancel()
    return answer
  } catch (error) {
    await body.cancel()
    throw error instanceof OciError ? invalid(error.message, error) : error
  }
}

function readAnswer(status: number, head: Headers, body: ByteSource, request: PeerRequest): PeerHead | PeerRefusal {
  if (status === 503) return { kind: 'busy', retryAfterMs: retryAfterOf(head) }
  if (status === 404) return { kind: 'missing' }
  return status === 416 ? readUnsatisfiable(head, request) : readContent(status, head, body, request)
}

function pathOf(target: ManifestTarget | BlobTarget): string {
  return `/v2/${target.repository}/${target.kind}s/${target.tag ?? target.digest}?ns=${encodeURIComponent(target.registry)}`
}

function invalid(message: string, cause?: unknown): PeerError {
  return new PeerError(message, { failure: 'invalid', cause })
}

/**
 * The milliseconds of Retry-After (RFC 9110, section 10.2.3), at least one second, so that a busy peer is not asked in a loop.
 * Peers never send the form with a date.
 */
function retryAfterOf(headers: Headers): number {
  const text = headers.get('retry-after') ?? ''
  const ms = /^\d{1,6}$/.test(text) ? Math.max(Number(text), 1) * 1000 : RETRY_AFTER
  return ms * (1 + JITTER * Math.random())
}

function readUnsatisfiable(headers: Headers, { range }: PeerRequest): PeerHead {
  const told = parseContentRange(headers.get('content-range'))
  if (told?.kind === 'unsatisfied' && parseRange(range ?? null, told.size).kind === 'unsatisfiable') {
    return { kind: 'unsatisfiable', size: told.size }
  }
  throw invalid('status 416 for a range that exists, or without the size')
}

/** Accepts an answer only if it is complete and exactly what was asked for. */
function readContent(status: number, headers: Headers, body: ByteSource, { target, range }: PeerRequest): PeerHead {
  if (status !== 200 && status !== 206) throw invalid(`status ${status}`)
  const digest = parseDigest(headers.get('docker-content-digest') ?? '')
  const { digest: asked = digest } = target
  if (digest !== asked) throw invalid(`answered with ${digest} for ${asked}`)
  const mediaType = headers.get('content-type') ?? ''
  if (isManifestMediaType(mediaType) !== (target.kind === 'manifest')) throw invalid(`media type ${mediaType}`)
  const encoding = headers.get('content-encoding')
  if (encoding !== null) throw invalid(`content-encoded as ${encoding}`)
  const length = Number(headers.get('content-length') ?? Number.NaN)
  if (!Number.isSafeInteger(length) || length < 0) throw invalid('no content length')
  // A manifest is read completely before a byte of it is passed on.
  if (target.kind === 'manifest' && length > MANIFEST_SIZE_LIMIT) throw invalid(`a manifest of ${length} bytes`)
  const requested = (size: number) => parseRange(range ?? null, size)
  if (status === 200) {
    const wanted = requested(length)
    // A server may ignore a Range (RFC 9110, section 14.2). If the range begins at the first byte, the whole content will do.
    if (wanted.kind === 'unsatisfiable' || (wanted.kind === 'part' && wanted.range.start > 0)) {
      throw invalid('the whole instead of the range that was asked for')
    }
    return { kind: 'content', descriptor: { mediaType, digest, size: length }, range: undefined, body }
  }
  const told = parseContentRange(headers.get('content-range'))
  if (told?.kind !== 'part' || told.size === undefined || lengthOf(told.range) !== length) {
    throw invalid('a part without the range that it is')
  }
  const { size, range: part } = told
  const wanted = requested(size)
  if (wanted.kind !== 'part' || wanted.range.start !== part.start || wanted.range.end !== part.end) {
    throw invalid(`bytes ${part.start}-${part.end} of ${size} instead of ${range ?? 'the whole'}`)
  }
  return { kind: 'content', descriptor: { mediaType, digest, size }, range: part, body }
}
