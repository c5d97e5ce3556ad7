import type { Activity, PartSource } from '../observe/activity.ts'
import { type BlobTarget, digestNamed, type ManifestTarget } from '../oci/path.ts'
import { sourceResponse } from '../platform/byte-source.ts'
import type { Admission } from '../platform/listener.ts'
import type { ContentStore } from '../store/store.ts'
import type { PeerContent } from '../transfer/peer-content.ts'
import { contentHead, notModifiedAnswer, rangeHeaderOf, SOURCE_HEADER, unsatisfiableAnswer } from './answer.ts'
import { countRequests } from './count.ts'
import { createDoor, type DoorDependencies } from './door.ts'
import { answerLocally } from './local.ts'
import type { HttpMetrics } from './metrics.ts'

export interface RegistryDoorDependencies extends DoorDependencies {
  readonly store: ContentStore
  readonly peers: PeerContent
  readonly metrics: HttpMetrics
  /** Told of every answer about content that is mirrored. */
  readonly activity?: Activity | undefined
}

export interface RegistryDoor {
  /** @param admission tells when the answer has gone out; without it nobody knows how long that takes */
  fetch(request: Request, admission?: Admission): Promise<Response>
}

/** The door for containerd on this node: what the node has, or else what a peer has. */
export function createRegistryDoor(dependencies: RegistryDoorDependencies): RegistryDoor {
  const { store, peers, metrics, activity, ...rest } = dependencies
  /** What the requests ask for that passed the policy. */
  const targets = new WeakMap<Request, ManifestTarget | BlobTarget>()
  const door = createDoor('registry', rest, async (target, request) => {
    targets.set(request, target)
    const local = await answerLocally(store, target, request)
    if (local !== undefined) return local
    // Of a blob only the repository is known. It could be of a tag that is excluded.
    const digest = digestNamed(target)
    if (digest !== undefined && request.method === 'GET' && rest.policy.needsNoTag) store.expect?.(digest)
    return await answerFromPeer(peers, target, request)
  })
  const watched = async (request: Request, admission?: Admission) => {
    const startedAt = performance.now()
    const response = await door.fetch(request)
    const source = response.headers.get(SOURCE_HEADER) as Exclude<PartSource, 'none'> | null
    const target = targets.get(request)
    const headMs = performance.now() - startedAt
    const isAnswer = source !== null || response.status === 404
    const bytes = source === null || response.body === null ? 0 : Number(response.headers.get('content-length'))
    const ended =
      target === undefined || !isAnswer
        ? undefined
        : activity?.answered({ target, source: source ?? 'none', bytes, headMs })
    void admission?.ended?.then(() => {
      const ms = performance.now() - startedAt
      ended?.(ms)
      if (source !== null) metrics.requestSeconds.observe({ source }, ms / 1000)
    })
    return response
  }
  return { fetch: countRequests('registry', metrics, watched) }
}

async function answerFromPeer(
  peers: PeerContent,
  target: ManifestTarget | BlobTarget,
  request: Request,
): Promise<Response | undefined> {
  const method = request.method === 'HEAD' ? 'HEAD' : 'GET'
  const found = await peers.fetch({ target, method, range: rangeHeaderOf(target, request) }, request.signal)
  if (found === undefined) return undefined
  if (found.kind === 'unsatisfiable') return unsatisfiableAnswer(found.size)
  const unmodified = notModifiedAnswer(request, found.descriptor.digest)
  if (unmodified !== undefined) {
    await found.body?.cancel()
    return unmodified
  }
  const head = contentHead(found.descriptor, found.range, 'peer')
  return found.body === null ? new Response(null, head) : sourceResponse(found.body, head)
}
