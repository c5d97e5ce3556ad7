import type { Activity } from '../observe/activity.ts'
import { errorAnswer, OciError } from '../oci/error.ts'
import { NO_BODY, sourceResponse } from '../platform/byte-source.ts'
import type { ContentStore } from '../store/store.ts'
import type { PeerContent } from '../transfer/peer-content.ts'
import { conditionalAnswer, contentHead, rangeHeaderOf, unsatisfiableAnswer } from './answer.ts'
import { createDoor, type Door, type DoorDependencies, type DoorMiddleware } from './door.ts'
import { fromStore } from './from-store.ts'
import type { HttpMetrics } from './metrics.ts'
import { count, readOnly, readTarget, sameSite } from './middleware.ts'
import { leaveToUpstream, type Resolution } from './resolve.ts'

export interface RegistryDoorDependencies extends DoorDependencies {
  readonly store: ContentStore
  readonly peers: PeerContent
  readonly metrics: HttpMetrics
  readonly resolution: Resolution
  /** The registry of a request that names none; without it such a request gets content by its digest only. */
  readonly defaultRegistry?: string | undefined
  /** Told of every answer about content that is mirrored. */
  readonly activity?: Activity | undefined
}

/** The door for containerd on this node. It serves content of this node, or else of a peer. */
export function createRegistryDoor(dependencies: RegistryDoorDependencies): Door {
  const { store, peers, metrics, activity, policy, resolution, defaultRegistry, log } = dependencies
  return createDoor(
    'registry',
    dependencies,
    [
      count('registry', metrics),
      sameSite((_, reason) => errorAnswer(new OciError('DENIED', `refused: ${reason}`))),
      readOnly(),
      readTarget(errorAnswer, defaultRegistry),
    ],
    [
      report(metrics, activity),
      leaveToUpstream(resolution, metrics, log),
      fromStore(store),
      // A blob's request names only the repository, so the blob could belong to a tag that the policy excludes.
      ...(policy.needsNoTag ? [expectContent(store)] : []),
      fromPeers(peers),
    ],
  )
}

/** Measures the time to the head and to the end of each answer, and tells the page what the answer gives. */
function report(metrics: HttpMetrics, activity: Activity | undefined): DoorMiddleware {
  return async function report(c, next) {
    const startedAt = performance.now()
    await next()
    const headMs = performance.now() - startedAt
    const { target, content, isForUpstream } = c.var
    if (content !== undefined && !c.req.raw.signal.aborted) {
      metrics.firstByteSeconds.observe({ source: content.source }, headMs / 1000)
    }
    const { source, bytes, descriptor } = content ?? { source: 'none', bytes: 0, descriptor: undefined }
    const isAboutContent = content !== undefined || c.res.status === 404
    const answered = { target, source, bytes, headMs, descriptor, isForUpstream }
    const ended = isAboutContent ? activity?.answered(answered) : undefined
    void c.env.admission.ended.then((sent) => {
      const ms = performance.now() - startedAt
      ended?.()
      if (source === 'none') return
      metrics.requestSeconds.observe({ source }, ms / 1000)
      if (bytes > 0) metrics.registryBytes.inc({ registry: metrics.registryLabel(target.registry), source }, sent)
    })
  }
}

/** Tells the store which content containerd is about to put there, from a peer or from upstream. */
function expectContent(store: ContentStore): DoorMiddleware {
  return async function expectContent(c, next) {
    const { kind, digest } = c.get('target')
    const isConditional = c.req.header('if-none-match') !== undefined
    if (digest !== undefined && c.req.method === 'GET' && !isConditional) store.expect?.(digest, kind)
    return await next()
  }
}

/** Answers with content of a peer, and passes requests on that no peer can answer. */
function fromPeers(peers: PeerContent): DoorMiddleware {
  return async function fromPeers(c, next) {
    const request = c.req.raw
    const target = c.get('target')
    // If the request's conditions rule the content out, it is not fetched: it is enough to know that a peer has it.
    const { digest } = target
    const isConditional = digest !== undefined && conditionalAnswer(request, digest) !== undefined
    const method = request.method === 'HEAD' || isConditional ? 'HEAD' : 'GET'
    const range = isConditional ? undefined : rangeHeaderOf(target, request)
    const found = await peers.fetch({ target, method, range }, request.signal)
    if (found === undefined) return await next()
    if (found.kind === 'unsatisfiable') return unsatisfiableAnswer(found.size)
    // When a body ends before its first byte, containerd asks again, after its other downloads.
    if (found.kind === 'later') return sourceResponse(NO_BODY, { headers: { 'Content-Length': String(found.size) } })
    const conditional = conditionalAnswer(request, found.descriptor.digest)
    if (conditional !== undefined) {
      await found.body?.cancel()
      return conditional
    }
    const head = contentHead(c, found.descriptor, found.range, 'peer')
    return found.body === null ? new Response(null, head) : sourceResponse(found.body, head)
  }
}
