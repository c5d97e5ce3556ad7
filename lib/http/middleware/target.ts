import { OciError } from '../../oci/error.ts'
import { parseRequestPath } from '../../oci/path.ts'
import type { DoorMiddleware } from '../env.ts'

/**
 * Reads what a request asks for, the only time that its path is read.
 *
 * @param refuse answers a path that is none; if missing, the request goes on without a target
 */
export function readTarget(refuse?: (error: OciError) => Response): DoorMiddleware {
  return async function readTarget(c, next) {
    try {
      const asked = parseRequestPath(c.req.path, c.req.query('ns'))
      if (asked.kind === 'manifest' || asked.kind === 'blob') c.set('target', asked)
    } catch (error) {
      if (!(error instanceof OciError)) throw error
      if (refuse !== undefined) return refuse(error)
    }
    return await next()
  }
}
