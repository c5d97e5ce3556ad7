import { OciError } from '../../oci/error.ts'
import { type ContentTarget, digestNamed, tagNamed } from '../../oci/path.ts'
import type { Policy } from '../../oci/policy.ts'
import { errorAnswer } from '../answer.ts'
import type { DoorMiddleware } from '../env.ts'

/** Answers with a miss, whatever there is, for an image that this node does not mirror. */
export function admitted(policy: Policy): DoorMiddleware {
  return async function admitted(c, next) {
    const target = c.get('target')
    const tagged = tagNamed(target)
    const isAdmitted = policy.admits(tagged ?? target) && (tagged === undefined || policy.resolvesTags)
    return isAdmitted ? await next() : unknownAnswer(target)
  }
}

/** The 404 of a miss. */
export function unknownAnswer(target: ContentTarget): Response {
  const name = `${target.registry}/${target.repository}`
  const reference = tagNamed(target)?.tag ?? digestNamed(target)
  const code = target.kind === 'blob' ? 'BLOB_UNKNOWN' : 'MANIFEST_UNKNOWN'
  return errorAnswer(
    new OciError(code, `${target.kind} ${reference} of ${name} is not known here`, { detail: { name } }),
  )
}
