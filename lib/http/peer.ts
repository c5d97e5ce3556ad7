import { OciError } from '../oci/error.ts'
import { type Key, targetKey } from '../oci/key.ts'
import { parseRequestPath } from '../oci/path.ts'
import type { CapabilityCheck } from '../peers/credentials.ts'
import type { Admission } from '../platform/listener.ts'
import type { ContentStore } from '../store/store.ts'
import { errorAnswer } from './answer.ts'
import { count } from './count.ts'
import { createDoor, type DoorDependencies } from './door.ts'
import { answerLocally } from './local.ts'
import type { HttpMetrics } from './metrics.ts'
import type { UploadRate } from './upload-rate.ts'

export interface PeerDoorDependencies extends DoorDependencies {
  readonly store: ContentStore
  readonly capabilities: CapabilityCheck
  /** The door's address as its node announces it, `host:port`. */
  readonly address: string
  /** Bounds the bytes that are given; no bound if missing. */
  readonly uploadRate?: UploadRate | undefined
  readonly metrics: HttpMetrics
}

export interface PeerDoorOptions {
  /** Requests that are answered at a time, content included. */
  readonly maxTransfers?: number
}

export interface PeerDoor {
  /** @param admission counts the requests that run; without it none is refused for being too many */
  fetch(request: Request, admission?: Admission): Response | Promise<Response>
}

/** Each takes a connection and at most two chunks of a file: 64 stay below 40 MiB on every runtime. */
export const MAX_TRANSFERS = 64
/** When a peer that was refused may ask again, in seconds: a busy node is busy for longer than it takes to say so. */
const RETRY_AFTER = 1
/** Stands for what a request without a key of its own asks for; no capability is ever made for it. */
const NO_KEY = '' as Key

/**
 * The door for other nodes of the swarm: this node's own content and nothing else. It is made without a way to other
 * peers, so a request cannot travel in a circle.
 *
 * Who has no capability for exactly what the request asks for, at this very door, gets one and the same 403, before the store or the policy
 * are asked: the answer does not tell what exists here. Every other answer carries a proof of the swarm key. A request
 * that is one too many gets 503 at once, so that the asker goes to another peer.
 */
export function createPeerDoor(
  { store, capabilities, address, uploadRate, metrics, ...rest }: PeerDoorDependencies,
  { maxTransfers = MAX_TRANSFERS }: PeerDoorOptions = {},
): PeerDoor {
  const door = createDoor('peer', rest, (target, request) => answerLocally(store, target, request))
  return {
    // Not async: a refusal is over at once, so that however many there are, they take no place from a transfer.
    fetch(request, admission) {
      const grant = capabilities.check(request, keyOf(request), address)
      if (grant === undefined) {
        metrics.peerDoorRefused.inc({ reason: 'capability' })
        return forbidden()
      }
      const proven = (response: Response) => {
        const proof = grant.prove(response.status, response.headers)
        for (const [name, value] of Object.entries(proof)) response.headers.set(name, value)
        count('peer', metrics, request, response)
        return response
      }
      if (admission?.take(maxTransfers) === false) {
        metrics.peerDoorRefused.inc({ reason: 'busy' })
        return proven(busy())
      }
      const give = (response: Response) => proven(uploadRate === undefined ? response : uploadRate.limit(response))
      const response = door.fetch(request)
      return response instanceof Promise ? response.then(give) : give(response)
    },
  }
}

/** The key for which the request needs a capability. */
function keyOf(request: Request): Key {
  const url = new URL(request.url)
  try {
    const target = parseRequestPath(url.pathname, url.searchParams.get('ns') ?? undefined)
    return target.kind === 'manifest' || target.kind === 'blob' ? targetKey(target) : NO_KEY
  } catch (error) {
    if (error instanceof OciError) return NO_KEY
    throw error
  }
}

function forbidden(): Response {
  // By the time other nodes see that their clocks are wrong; Bun's server tells none by itself.
  const headers = { Date: new Date().toUTCString() }
  return errorAnswer(new OciError('DENIED', 'this door is for nodes that hold the key of its swarm'), headers)
}

function busy(): Response {
  const error = new OciError('TOOMANYREQUESTS', 'this node gives to as many others as it may', { status: 503 })
  return errorAnswer(error, { 'Retry-After': String(RETRY_AFTER) })
}
