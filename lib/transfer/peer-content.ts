import type { Logger } from '../observe/log.ts'
import type { Descriptor } from '../oci/descriptor.ts'
import { parseDigest } from '../oci/digest.ts'
import { digestKey, type Key, tagKey } from '../oci/key.ts'
import { isManifestMediaType } from '../oci/media-type.ts'
import type { BlobTarget, ManifestTarget } from '../oci/path.ts'
import { type ByteRange, lengthOf, parseContentRange, parseRange } from '../oci/range.ts'
import { LENGTH_HEADER } from '../runtime/length-header.ts'
import type { Peer, Router } from '../swarm/router.ts'
import { eagerly } from './eagerly.ts'
import { type PeerClient, PeerError, type PeerReply } from './peer-client.ts'

export interface PeerRequest {
  readonly target: ManifestTarget | BlobTarget
  readonly method: 'GET' | 'HEAD'
  /** The value of a Range header, for GET of a blob. */
  readonly range?: string | undefined
}

export type PeerAnswer =
  | {
      readonly kind: 'content'
      readonly descriptor: Descriptor
      /** Which part the body is; the whole if missing. */
      readonly range: ByteRange | undefined
      /** Nothing for HEAD. To be read to its end or cancelled. */
      readonly body: ReadableStream<Uint8Array> | null
    }
  | { readonly kind: 'unsatisfiable'; readonly size: number }

/** Gets what this node has not from those that do. */
export interface PeerContent {
  /** The content from a peer; `undefined` when nobody has it, or nobody answers in time. Never throws for a peer's fault. */
  fetch(request: PeerRequest, signal: AbortSignal): Promise<PeerAnswer | undefined>
}

export interface PeerContentDependencies {
  readonly router: Router
  readonly client: PeerClient
  readonly log: Logger
}

export interface PeerContentOptions {
  /** Milliseconds for which a miss may look for peers. */
  readonly lookupTimeout: number
  /** How many peers are asked, one after the other, before the miss stands. Each may take the client's time for a head. */
  readonly attempts?: number
}

const ATTEMPTS = 3

/** Asks the peers that the router finds, in its order, until one has the content. */
export function createPeerContent(
  { router, client, log }: PeerContentDependencies,
  { lookupTimeout, attempts = ATTEMPTS }: PeerContentOptions,
): PeerContent {
  return {
    async fetch(request, signal) {
      const key = keyOf(request.target)
      const stop = new AbortController()
      const lookup = AbortSignal.any([signal, stop.signal, AbortSignal.timeout(lookupTimeout)])
      let asked = 0
      try {
        for await (const peer of eagerly(router.lookup(key, lookup), lookup)) {
          try {
            const answer = await ask(client, peer, request, signal)
            if (answer !== undefined) return answer
            log.debug('peer has it not', { key, peer })
          } catch (error) {
            if (signal.aborted) throw error
            log.warn('peer failed', { key, peer, error })
          }
          if (++asked >= attempts) return undefined
        }
        return undefined
      } finally {
        stop.abort()
      }
    },
  }
}

function keyOf(target: ManifestTarget | BlobTarget): Key {
  if (target.kind === 'blob') return digestKey(target.digest)
  const { registry, repository, reference } = target
  return 'tag' in reference ? tagKey({ registry, repository, tag: reference.tag }) : digestKey(reference.digest)
}

function pathOf(target: ManifestTarget | BlobTarget): string {
  const argument =
    target.kind === 'blob' ? target.digest : 'tag' in target.reference ? target.reference.tag : target.reference.digest
  return `/v2/${target.repository}/${target.kind}s/${argument}?ns=${encodeURIComponent(target.registry)}`
}

async function ask(
  client: PeerClient,
  peer: Peer,
  request: PeerRequest,
  signal: AbortSignal,
): Promise<PeerAnswer | undefined> {
  const { target, method, range } = request
  const headers = range === undefined ? {} : { range }
  const reply = await client.call(peer, { method, path: pathOf(target), headers }, signal)
  try {
    const answer = read(reply, request)
    if (answer?.kind !== 'content' || answer.body === null) await reply.body.cancel()
    return answer
  } catch (error) {
    await reply.body.cancel()
    throw error
  }
}

/** Takes an answer only if it is whole and exactly what was asked for: anything else is the peer's failure. */
function read({ status, headers, body }: PeerReply, { target, method, range }: PeerRequest): PeerAnswer | undefined {
  if (status === 404) return undefined
  const requested = (size: number) => parseRange(range ?? null, size)
  const told = parseContentRange(headers.get('content-range'))
  if (status === 416) {
    if (told?.kind === 'unsatisfied' && requested(told.size).kind === 'unsatisfiable') {
      return { kind: 'unsatisfiable', size: told.size }
    }
    throw new PeerError('status 416 for a range that exists, or without the size')
  }
  if (status !== 200 && status !== 206) throw new PeerError(`status ${status}`)

  const digest = parseDigest(headers.get('docker-content-digest') ?? '')
  const asked = target.kind === 'blob' ? target.digest : 'digest' in target.reference ? target.reference.digest : digest
  if (digest !== asked) throw new PeerError(`answered with ${digest} for ${asked}`)
  const mediaType = headers.get('content-type') ?? ''
  if (isManifestMediaType(mediaType) !== (target.kind === 'manifest')) throw new PeerError(`media type ${mediaType}`)
  const encoding = headers.get('content-encoding')
  if (encoding !== null) throw new PeerError(`content-encoded as ${encoding}`)
  const length = Number(headers.get('content-length') ?? headers.get(LENGTH_HEADER) ?? Number.NaN)
  if (!Number.isSafeInteger(length) || length < 0) throw new PeerError('no content length')

  const answer = { kind: 'content', body: method === 'HEAD' ? null : body } as const
  if (status === 200) {
    if (requested(length).kind !== 'whole') throw new PeerError('the whole instead of the range that was asked for')
    return { ...answer, descriptor: { mediaType, digest, size: length }, range: undefined }
  }
  if (told?.kind !== 'part' || told.size === undefined || lengthOf(told.range) !== length) {
    throw new PeerError('a part without the range that it is')
  }
  const { size, range: part } = told
  const wanted = requested(size)
  if (wanted.kind !== 'part' || wanted.range.start !== part.start || wanted.range.end !== part.end) {
    throw new PeerError(`bytes ${part.start}-${part.end} of ${size} instead of ${range ?? 'the whole'}`)
  }
  return { ...answer, descriptor: { mediaType, digest, size }, range: part }
}
