import { isManifestMediaType } from '../oci/media-type.ts'
import { parseRange } from '../oci/range.ts'
import { putBack, sourceResponse } from '../platform/byte-source.ts'
import type { ContentStore } from '../store/store.ts'
import { conditionalAnswer, contentHead, rangeHeaderOf, unsatisfiableAnswer } from './answer.ts'
import type { DoorMiddleware } from './door.ts'

/**
 * Answers with content that this node holds, and passes other requests on. Manifests are served only under `manifests`, and
 * everything else only under `blobs`.
 */
export function fromStore(store: ContentStore): DoorMiddleware {
  return async function fromStore(c, next) {
    const request = c.req.raw
    const target = c.get('target')
    const digest = target.tag === undefined ? target.digest : await store.resolve(target, request.signal)
    const descriptor = digest && (await store.describe(digest, request.signal))
    if (descriptor === undefined) return await next()
    if (isManifestMediaType(descriptor.mediaType) !== (target.kind === 'manifest')) return await next()

    const conditional = conditionalAnswer(request, descriptor.digest)
    if (conditional !== undefined) return conditional
    const requested = parseRange(rangeHeaderOf(target, request) ?? null, descriptor.size)
    if (requested.kind === 'unsatisfiable') return unsatisfiableAnswer(descriptor.size)
    const range = requested.kind === 'part' ? requested.range : undefined
    if (request.method === 'HEAD') return new Response(null, contentHead(c, descriptor, range, 'local'))
    const body = await store.open(descriptor.digest, range, request.signal)
    if (body === undefined) return await next()
    // Content whose first bytes cannot be read is a failure of this node. After the head it would be too late to say so.
    const first = await body.next()
    return sourceResponse(putBack(first, body), contentHead(c, descriptor, range, 'local'))
  }
}
