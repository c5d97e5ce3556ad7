import { isManifestMediaType } from '../oci/media-type.ts'
import type { BlobTarget, ManifestTarget } from '../oci/path.ts'
import { parseRange } from '../oci/range.ts'
import { fileResponse } from '../platform/file-response.ts'
import type { ContentStore } from '../store/store.ts'
import { contentHead, notModifiedAnswer, rangeHeaderOf, unsatisfiableAnswer } from './answer.ts'

/**
 * Answers with what this node has; `undefined` if it has not. Manifests are served under `manifests` and everything else
 * under `blobs`, never the other way round.
 */
export async function answerLocally(
  store: ContentStore,
  target: ManifestTarget | BlobTarget,
  request: Request,
): Promise<Response | undefined> {
  const { signal } = request
  const digest = await digestOf(store, target, signal)
  if (digest === undefined) return undefined
  const descriptor = await store.describe(digest, signal)
  if (descriptor === undefined) return undefined
  if (isManifestMediaType(descriptor.mediaType) !== (target.kind === 'manifest')) return undefined

  const unmodified = notModifiedAnswer(request, digest)
  if (unmodified !== undefined) return unmodified
  const requested = parseRange(rangeHeaderOf(target, request) ?? null, descriptor.size)
  if (requested.kind === 'unsatisfiable') return unsatisfiableAnswer(descriptor.size)
  const range = requested.kind === 'part' ? requested.range : undefined
  const head = contentHead(descriptor, range, 'local')
  if (request.method === 'HEAD') return new Response(null, head)
  const body = await store.open(digest, range, signal)
  if (body === undefined) return undefined
  return body.kind === 'file' ? fileResponse(body, head) : new Response(body.stream, head)
}

async function digestOf(store: ContentStore, target: ManifestTarget | BlobTarget, signal: AbortSignal) {
  if (target.kind === 'blob') return target.digest
  if ('digest' in target.reference) return target.reference.digest
  const { registry, repository } = target
  return await store.resolve({ registry, repository, tag: target.reference.tag }, signal)
}
