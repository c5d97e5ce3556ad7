import { errorAnswer, OciError } from '../../oci/error.ts'
import { targetKey } from '../../oci/key.ts'
import type { ContentTarget } from '../../oci/path.ts'
import { type CapabilityCheck, DOOR_KEY } from '../../peers/credentials.ts'
import type { DoorMiddleware } from '../env.ts'
import type { HttpMetrics } from '../metrics.ts'

/**
 * Lets a request pass only with a capability for exactly what it asks for at this very door, and proves the swarm key with
 * every answer to it. Every other request gets one and the same 403 after the same work, before the store or the policy
 * are asked: the answer does not tell what exists here.
 *
 * @param address the door's, as its node announces it
 */
export function capability(capabilities: CapabilityCheck, address: string, metrics: HttpMetrics): DoorMiddleware {
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
