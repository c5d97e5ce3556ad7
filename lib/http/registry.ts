import type { Metrics } from '../observe/metrics.ts'
import type { BlobTarget, ManifestTarget } from '../oci/path.ts'
import { sourceResponse } from '../runtime/byte-source.ts'
import type { ContentStore } from '../store/store.ts'
import type { PeerContent } from '../transfer/peer-content.ts'
import { contentHead, notModifiedAnswer, rangeHeaderOf, unsatisfiableAnswer } from './answer.ts'
import { countRequests } from './count.ts'
import { createDoor, type DoorDependencies } from './door.ts'
import { answerLocally } from './local.ts'

export interface RegistryDoorDependencies extends DoorDependencies {
  readonly store: ContentStore
  readonly peers: PeerContent
  readonly metrics: Metrics
}

export interface RegistryDoor {
  fetch(request: Request): Promise<Response>
}

/** The door for containerd on this node: what the node has, or else what a peer has. */
export function createRegistryDoor({ store, peers, metrics, ...rest }: RegistryDoorDependencies): RegistryDoor {
  const door = createDoor(
    'registry',
    rest,
    async (target, request) =>
      (await answerLocally(store, target, request)) ?? (await answerFromPeer(peers, target, request)),
  )
  return { fetch: countRequests('registry', metrics, (request: Request) => door.fetch(request)) }
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
