import type { PartSource } from '../observe/activity.ts'
import { SOURCE_HEADER } from './answer.ts'
import type { DOORS, HttpMetrics } from './metrics.ts'

type Door = (typeof DOORS)[number]

/**
 * Counts the requests of a door by method, status and source of the content, the bytes that their answers declare, and the
 * time until the head of an answer with content.
 */
export function countRequests<Rest extends readonly unknown[]>(
  door: Door,
  metrics: HttpMetrics,
  handler: (request: Request, ...rest: Rest) => Response | Promise<Response>,
): (request: Request, ...rest: Rest) => Promise<Response> {
  return async (request, ...rest) => {
    const startedAt = performance.now()
    const response = await handler(request, ...rest)
    const source = count(door, metrics, request, response)
    if (source !== 'none') metrics.firstByteSeconds.observe({ source }, (performance.now() - startedAt) / 1000)
    return response
  }
}

/**
 * Counts one answer of a door; gives where its content came from. One for a client that has left is given to nobody: it would be
 * counted as a failure of this node, although another node was only sooner.
 */
export function count(door: Door, metrics: HttpMetrics, request: Request, response: Response): PartSource {
  if (request.signal.aborted) return 'none'
  const source = (response.headers.get(SOURCE_HEADER) ?? 'none') as PartSource
  // Anybody can send any method; what a label may be is bounded.
  const method = request.method === 'GET' || request.method === 'HEAD' ? request.method : 'other'
  metrics.requests.inc({ door, method, status: String(response.status), source })
  if (source !== 'none' && response.body !== null) {
    metrics.bytes.inc({ door, source }, Number(response.headers.get('content-length')))
  }
  return source
}
