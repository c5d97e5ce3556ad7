import { errorAnswer, OciError } from '../oci/error.ts'
import { targetKey } from '../oci/key.ts'
import type { ContentTarget } from '../oci/path.ts'
import { parseContentRange } from '../oci/range.ts'
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
  /** The nodes that get content from this one while it arrives; if missing, none do. */
  readonly followers?: Followers | undefined
  /** The door's address as this node announces it, `host:port`. */
  readonly address: string
  /** Bounds the bytes per second that peers get; if missing, nothing does. */
  readonly uploadRate?: UploadRate | undefined
  /**
   * How many requests are answered at a time, until the last byte of each body. Each takes a connection and at most one chunk
   * of a file: 64 stay below 40 MiB on every runtime.
   */
  readonly maxTransfers: number
  readonly metrics: HttpMetrics
}

/** Seconds after which a refused peer may ask again: the node stays busy for a while. */
const RETRY_AFTER = 1

/**
 * The door for other nodes of the swarm. It serves only this node's own content and cannot ask other peers, so a request cannot
 * go round in a circle.
 */
export function createPeerDoor(dependencies: PeerDoorDependencies): Door {
  const { store, capabilities, followers, address, uploadRate, maxTransfers, metrics } = dependencies
  return createDoor(
    'peer',
    dependencies,
    [
      readTarget(),
      requireCapability(capabilities, address, metrics),
      count('peer', metrics),
      limitTransfers(maxTransfers, metrics),
      finishPieces(),
      ...(uploadRate === undefined ? [] : [limitRate(uploadRate)]),
      readOnly(),
    ],
    [fromStore(store), ...(followers === undefined ? [] : [fromArrival(followers)])],
  )
}

/**
 * Refuses a request at once when `maxTransfers` others are being answered, so that the node that asked turns to another peer.
 */
function limitTransfers(maxTransfers: number, metrics: HttpMetrics): DoorMiddleware {
  return async function limitTransfers(c, next) {
    if (c.env.admission.take(maxTransfers)) return await next()
    metrics.peerDoorRefused.inc({ reason: 'busy' })
    const error = new OciError('TOOMANYREQUESTS', 'this node is busy with other requests', {
      status: 503,
    })
    return errorAnswer(error, { 'Retry-After': String(RETRY_AFTER) })
  }
}

/**
 * Other nodes get a blob in pieces. When this node stops, it still sends them the remaining pieces of the blobs that they have
 * begun, and no other content.
 */
function finishPieces(): DoorMiddleware {
  return async function finishPieces(c, next) {
    const { admission } = c.env
    if (!admission.mayBegin(c.req.path))
      return errorAnswer(
        new OciError('BLOB_UNKNOWN', 'this node is stopping: it only finishes blobs that it has begun to send'),
      )
    await next()
    const given = parseContentRange(c.res.headers.get('content-range'))
    if (given?.kind === 'part') admission.givesPart(c.req.path, given.range.end + 1 === given.size)
    return undefined
  }
}

function limitRate(uploadRate: UploadRate): DoorMiddleware {
  return async function limitRate(c, next) {
    await next()
    const limited = uploadRate.limit(c.res)
    // If `c.res` were still set, Hono would merge the two into a third response, which has lost its `ByteSource`.
    c.res = undefined
    c.res = limited
  }
}

/**
 * Lets a request pass only with a capability for exactly this content at this door, and proves the swarm key in the answer. All
 * other requests get the same 403, before the store and the policy are asked, so the answer does not reveal what exists here.
 *
 * @param address the door's address as this node announces it
 */
function requireCapability(capabilities: CapabilityCheck, address: string, metrics: HttpMetrics): DoorMiddleware {
  return async function requireCapability(c, next) {
    const target: ContentTarget | undefined = c.get('target')
    const grant = capabilities.check(c.req.raw, target === undefined ? DOOR_KEY : targetKey(target), address)
    if (grant === undefined) {
      metrics.peerDoorRefused.inc({ reason: 'capability' })
      return errorAnswer(new OciError('DENIED', 'this door is for nodes that hold the key of its swarm'))
    }
    c.env.admission.trust()
    await next()
    for (const [name, value] of Object.entries(grant.prove(c.res.status, c.res.headers))) c.res.headers.set(name, value)
    return undefined
  }
}
