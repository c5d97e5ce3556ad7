import { isIP } from 'node:net'
import type { Context, MiddlewareHandler } from 'hono'
import { errorAnswer, OciError } from '../oci/error.ts'
import { parseRequestPath } from '../oci/path.ts'
import type { DoorMiddleware } from './door.ts'
import type { DOORS, HttpMetrics } from './metrics.ts'

/**
 * Sets the target of a request from its path. Nothing else reads the path.
 *
 * @param refuse answers a path that names no valid target; if missing, the request goes on without a target
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

/** Refuses every method but GET and HEAD. */
export function readOnly(): MiddlewareHandler {
  return async function readOnly({ req: { method } }, next) {
    if (method === 'GET' || method === 'HEAD') return await next()
    const error = new OciError('UNSUPPORTED', `${method} is not supported: a mirror is read-only`)
    return errorAnswer(error, { Allow: 'GET, HEAD' })
  }
}

/** Counts the answers of a door by method, status and source of the content, and the bytes of content that it sends. */
export function count(door: (typeof DOORS)[number], metrics: HttpMetrics): DoorMiddleware {
  return async function count(c, next) {
    await next()
    // A client that has left gets no answer, so none counts. It may have left because another node was sooner, which is no
    // failure.
    if (c.req.raw.signal.aborted) return
    const { source } = c.get('content') ?? { source: 'none' }
    // Clients may send any method, but a label must have few values.
    const method = c.req.method === 'GET' || c.req.method === 'HEAD' ? c.req.method : 'other'
    metrics.requests.inc({ door, method, status: String(c.res.status), source })
    if (source === 'none' || method !== 'GET') return
    void c.env.admission.ended.then((sent) => metrics.bytes.inc({ door, source }, sent))
  }
}

/**
 * Refuses requests that a browser makes for a web page of another site. It knows them by `Sec-Fetch-Site`, where browsers send
 * it, and by `Origin`; programs send neither. And Host must be an IP address or `localhost` (RFC 6761: never resolved elsewhere):
 * with DNS rebinding, a foreign name resolves to this address, and the browser takes the foreign page for one of ours.
 *
 * @param refuse answers with the reason
 * @param allowLinks whether links on other sites may lead here, because those sites cannot read the answer
 */
export function sameSite(
  refuse: (c: Context, reason: string) => Response,
  { allowLinks = false }: { readonly allowLinks?: boolean } = {},
): MiddlewareHandler {
  return async function sameSite(c, next) {
    const host = c.req.header('host') ?? new URL(c.req.url).host
    if (!isAddress(host)) return refuse(c, 'only an IP address or localhost is answered as a Host')
    const site = c.req.header('sec-fetch-site') ?? 'none'
    const isLink = allowLinks && c.req.method === 'GET' && c.req.header('sec-fetch-mode') === 'navigate'
    if (site !== 'same-origin' && site !== 'none' && !isLink) return refuse(c, 'asked by another site')
    const origin = c.req.header('origin')
    if (origin !== undefined && origin !== `http://${host}`) return refuse(c, 'asked by another origin')
    return await next()
  }
}

/** Whether a Host header names an IP address or localhost, with or without a port. */
function isAddress(host: string): boolean {
  const [, bracketed, plain = ''] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::\d{1,5})?$/.exec(host) ?? []
  return bracketed === undefined ? plain === 'localhost' || isIP(plain) === 4 : isIP(bracketed) === 6
}
