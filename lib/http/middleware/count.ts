import type { DoorMiddleware } from '../env.ts'
import type { DOORS, HttpMetrics } from '../metrics.ts'

/** Counts the answers of a door by method, status and source of the content, and the bytes that it has sent of them. */
export function count(door: (typeof DOORS)[number], metrics: HttpMetrics): DoorMiddleware {
  return async function count(c, next) {
    await next()
    // Nobody gets the answer to a client that has left: where another node was only sooner, it would count as a failure.
    if (c.req.raw.signal.aborted) return
    const { source, bytes } = c.get('content') ?? { source: 'none', bytes: 0 }
    // Anybody can send any method, but a label has few values.
    const method = c.req.method === 'GET' || c.req.method === 'HEAD' ? c.req.method : 'other'
    metrics.requests.inc({ door, method, status: String(c.res.status), source })
    if (source === 'none' || method !== 'GET') return
    const { ended = Promise.resolve(bytes) } = c.env?.admission ?? {}
    void ended.then((sent) => metrics.bytes.inc({ door, source }, sent))
  }
}
