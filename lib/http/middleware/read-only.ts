import type { MiddlewareHandler } from 'hono'
import { errorAnswer, OciError } from '../../oci/error.ts'

/** Refuses every method but GET and HEAD. */
export function readOnly(): MiddlewareHandler {
  return async function readOnly({ req: { method } }, next) {
    if (method === 'GET' || method === 'HEAD') return await next()
    const error = new OciError('UNSUPPORTED', `${method} is not supported: a mirror is read-only`)
    return errorAnswer(error, { Allow: 'GET, HEAD' })
  }
}
