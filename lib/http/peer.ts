import { errorAnswer, OciError } from '../oci/error.ts'
import { targetKey } from '../oci/key.ts'
import type { ContentTarget } from '../oci/path.ts'
import { type CapabilityCheck, DOOR_KEY } from '../peers/credentials.ts'
import type { ContentStore } from '../store/store.ts'
import { createDoor, type Door, type DoorDependencies, type DoorMiddleware } from './door.ts'
import { type Followers, fromArrival } from './from-arrival.ts'
import { fromStore } from './from-store.ts'
import type { HttpMetrics } from './metrics.ts'
import { count, readOnly, readTarget } from './middleware.ts'
import type { UploadRate } from './upload-rate.ts'

export interface PeerDoorDependencies extends DoorDependencies {
  readonly store: ContentStore
  readonly capabilities: CapabilityCheck
  /** The nodes that get content from this one while it arrives; nobody does if missing. */
  readonly followers?: Followers | undefined
  /** The door's address as its node announces it, `host:port`. */
  readonly address: string
  /** Bounds the bytes that are given; no bound if missing. */
  readonly uploadRate?: UploadRate | undefined
  /**
   * Requests that are answered at a time, content included. Each takes a connection and at most one chunk of a file: 64 stay
   * below 40 MiB on every runtime.
   */
  readonly maxTransfers: number
  readonly metrics: HttpMetrics
}

/** When a refused peer may ask again, in seconds: a busy node is busy for longer than it takes to say so. */
const RETRY_AFTER = 1

/**
 * The door for other nodes of the swarm: this node's own content and nothing else. It has no way to other peers, so a
 * request cannot travel in a circle.
 */
export function createPeerDoor(dependencies: PeerDoorDependencies): Door {
  const { store, capabilities, followers, address, uploadRate, maxTransfers, metrics } = dependencies
  return createDoor(
    'peer',
    dependencies,
    [
      readTarget(),
      capability(capabilities, address, metrics),
      count('peer', metrics),
      placed(maxTransfers, metrics),
      parts(),
      ...(uploadRate === undefined ? [] : [limited(uploadRate)]),
      readOnly(),
    ],
    [fromStore(store), ...(followers === undefined ? [] : [fromArrival(followers)])],
  )
}

/** Refuses at once a request that is one too many, so that its node goes to another peer. */
function placed(maxTransfers: number, metrics: HttpMetrics): DoorMiddleware {
  return async function placed(c, next) {
    if (c.env.admission?.take(maxTransfers) !== false) return await next()
    metrics.peerDoorRefused.inc({ reason: 'busy' })
    const error = new OciError('TOOMANYREQUESTS', 'this node serves as many others as it may', { status: 503 })
    return errorAnswer(error, { 'Retry-After': String(RETRY_AFTER) })
  }
}

/**
 * Other nodes get a blob in pieces. A node that is told to stop gives them the rest of what they have begun to get, and is
 * asked for nothing else.
 */
function parts(): DoorMiddleware {
  return async function parts(c, next) {
    const { admission } = c.env
    if (admission?.mayBegin(c.req.path) === false)
      return errorAnswer(
        new OciError('BLOB_UNKNOWN', 'this node is stopping, and only finishes what it has begun to send'),
      )
    await next()
    const range = /^bytes \d+-(\d+)\/(\d+)$/.exec(c.res.headers.get('content-range') ?? '')
    if (range !== null) admission?.givesPart(c.req.path, Number(range[1]) + 1 === Number(range[2]))
    return undefined
  }
}

function limited(uploadRate: UploadRate): DoorMiddleware {
  return async function limited(c, next) {
    await next()
    const limited = uploadRate.limit(c.res)
    // Otherwise Hono makes a third response of the two, which has lost the source.
    c.res = undefined
    c.res = limited
  }
}

/**
 * Lets a request pass only with a capability for exactly what it asks for at this very door, and proves the swarm key with
 * every answer to it. Every other request gets one and the same 403, before the store or the policy
 * are asked: the answer does not tell what exists here.
 *
 * @param address the door's, as its node announces it
 */
function capability(capabilities: CapabilityCheck, address: string, metrics: HttpMetrics): DoorMiddleware {
  return async function capability(c, next) {
    const target: ContentTarget | undefined = c.get('target')
    const grant = capabilities.check(c.req.raw, target === undefined ? DOOR_KEY : targetKey(target), address)
    if (grant === undefined) {
      metrics.peerDoorRefused.inc({ reason: 'capability' })
      return forbidden()
    }
    c.env?.admission?.trust()
    await next()
    for (const [name, value] of Object.entries(grant.prove(c.res.status, c.res.headers))) c.res.headers.set(name, value)
    return undefined
  }
}

function forbidden(): Response {
  return errorAnswer(new OciError('DENIED', 'this door is for nodes that hold the key of its swarm'))
}
