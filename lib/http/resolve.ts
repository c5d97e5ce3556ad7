import { boundedLog, type Logger } from '../observe/log.ts'
import { targetKey } from '../oci/key.ts'
import type { Upstreams } from '../upstream/upstreams.ts'
import { type DoorMiddleware, missAnswer } from './door.ts'
import type { HttpMetrics } from './metrics.ts'

/** Who resolves, which means to say what a tag points to and whether a client may pull an image. */
export interface Resolution {
  /** `fallback`: the registry while it answers, and otherwise the swarm (this node included) from what it knew last. */
  readonly by: 'fallback' | 'upstream' | 'swarm'
  readonly upstreams: Pick<Upstreams, 'answers'>
}

/** Who resolves for a registry now. */
export async function resolverOf({ by, upstreams }: Resolution, registry: string, signal: AbortSignal) {
  if (by !== 'fallback') return by
  return (await upstreams.answers(registry, signal)) ? 'upstream' : 'swarm'
}

/**
 * Answers 404 at once if upstream resolves: containerd then asks upstream with the credentials of the pod. containerd resolves
 * by HEAD, other clients by GET of a tag's manifest. A GET by digest asks for content and passes on.
 */
export function leaveToUpstream(resolution: Resolution, metrics: HttpMetrics, log: Logger): DoorMiddleware {
  const bounded = boundedLog(log)
  return async function leaveToUpstream(c, next) {
    const target = c.get('target')
    const { method, signal } = c.req.raw
    if (method !== 'HEAD' && target.tag === undefined) return await next()
    if ((await resolverOf(resolution, target.registry, signal)) === 'upstream') {
      c.set('isForUpstream', true)
      metrics.resolves.inc({ by: 'upstream' })
      return missAnswer(target, `${target.registry} resolves this itself: ask there (--resolve ${resolution.by})`)
    }
    await next()
    if (signal.aborted) return
    const isResolved = c.res.status < 400
    metrics.resolves.inc({ by: isResolved ? 'swarm' : 'nobody' })
    if (resolution.by === 'swarm' || !isResolved) return
    c.res.headers.set('X-Swarmirror-Resolved', 'swarm')
    bounded.warn('resolved by the swarm because upstream does not answer', {
      key: targetKey(target),
      digest: c.res.headers.get('docker-content-digest') ?? undefined,
    })
  }
}
