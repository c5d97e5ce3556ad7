import { OciError } from '../../oci/error.ts'
import { parseRequestPath } from '../../oci/path.ts'
import type { DoorMiddleware } from '../env.ts'

/**
 * Reads what a request asks for; nothing after it reads the path again.
 *
 * @param refuse answers a path that asks for nothing; if missing, the request goes on without a target
 * @param defaultRegistry the registry of a request that names none
 */
export function readTarget(refuse?: (error: OciError) => Response, defaultRegistry?: string): DoorMiddleware {
  return async function readTarget(c, next) {
    try {
      const asked = parseRequestPath(c.req.path, c.req.query('ns'), defaultRegistry)
      if (asked !== undefined) c.set('target', asked)
    } catch (error) {
      if (!(error instanceof OciError)) throw error
      if (refuse !== undefined) return refuse(error)
    }
    return await next()
  }
}
