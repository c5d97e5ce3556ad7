import { Hono, type MiddlewareHandler } from 'hono'
import { RegExpRouter } from 'hono/router/reg-exp-router'
import { boundedLog, type Logger } from '../observe/log.ts'
import type { Descriptor } from '../oci/digest.ts'
import { errorAnswer, OciError } from '../oci/error.ts'
import type { ContentTarget } from '../oci/path.ts'
import type { Policy } from '../oci/policy.ts'
import type { Admission, Handler } from '../platform/listener.ts'
import type { DOORS } from './metrics.ts'

/** What the middlewares of a door know about a request, beside the request itself. */
export interface DoorEnv {
  Bindings: { readonly admission: Admission }
  Variables: {
    /** The content that it asks for; missing where it asks for something else, such as `/v2/`. */
    target: ContentTarget
    /** Whether this mirror leaves the answer to upstream. */
    isForUpstream?: boolean
    /** What the answer gives; missing where it has no content. */
    content?: GivenContent
  }
}

export interface GivenContent {
  /** `local`: this node. `peer`: another one. */
  readonly source: 'local' | 'peer'
  /** Bytes of the body, as declared; 0 for HEAD. */
  readonly bytes: number
  /** Describes the whole content, also where the body is a range of it. */
  readonly descriptor: Descriptor
}

export type DoorMiddleware = MiddlewareHandler<DoorEnv>

export interface DoorDependencies {
  readonly policy: Policy
  readonly log: Logger
}

export interface Door {
  readonly fetch: Handler
}

/**
 * The pull half of the OCI distribution-spec 1.1, read-only. The registry door and the peer door differ in who may ask and
 * where content comes from.
 *
 * @param checks run for every request, in this order, and set the target
 * @param sources run for content that the policy admits: each answers or passes on; if none answers, the request is a miss
 */
export function createDoor(
  name: (typeof DOORS)[number],
  { policy, log }: DoorDependencies,
  checks: readonly DoorMiddleware[],
  sources: readonly DoorMiddleware[],
): Door {
  const bounded = boundedLog(log)
  // Hono's default falls back to a router that takes a second for a path of a thousand `manifests/`. This one matches all
  // routes in one expression, and refuses at the start a route that it cannot match so. `getPath` gives it the path as it was
  // sent, because Hono would decode it.
  const door = new Hono<DoorEnv>({ router: new RegExpRouter(), getPath: ({ url }) => new URL(url).pathname })
  door.use(...checks)
  door.on('GET', ['/v2', '/v2/'], baseAnswer)
  for (const content of ['/v2/:name{.+}/manifests/:reference', '/v2/:name{.+}/blobs/:digest']) {
    door.get(content, checkPolicy(policy), ...sources, (c) => missAnswer(c.get('target')))
  }
  door.notFound(absentAnswer)
  // Checks answer for mistakes of the client. Any error that is thrown is a failure of this node, even an OciError.
  door.onError((error, c) => {
    const request = { door: name, method: c.req.method, path: c.req.path }
    if (c.req.raw.signal.aborted) bounded.debug('client went away', request)
    else bounded.error('request failed', { ...request, error })
    return errorAnswer(new OciError('UNKNOWN', 'internal error; the log of this mirror has the cause'))
  })
  return { fetch: (request, admission) => door.fetch(request, { admission }) }
}

/** Answers an image that this node does not mirror with a miss, even if the node holds it. */
function checkPolicy(policy: Policy): DoorMiddleware {
  return async function checkPolicy(c, next) {
    // The routes also match paths without a valid target, which not every door has refused.
    const target: ContentTarget | undefined = c.get('target')
    if (target === undefined) return absentAnswer()
    const isAdmitted = policy.admits(target) && (target.tag === undefined || policy.resolvesTags)
    return isAdmitted ? await next() : missAnswer(target)
  }
}

/** The 404 of a miss. */
export function missAnswer(target: ContentTarget, why?: string): Response {
  const name = `${target.registry}/${target.repository}`
  const code = target.kind === 'blob' ? 'BLOB_UNKNOWN' : 'MANIFEST_UNKNOWN'
  return errorAnswer(
    new OciError(code, why ?? `${target.kind} ${target.tag ?? target.digest} of ${name} is not known here`),
  )
}

function baseAnswer(): Response {
  return new Response('{}', {
    headers: {
      'Content-Type': 'application/json',
      'Content-Length': '2',
      'Docker-Distribution-Api-Version': 'registry/2.0',
    },
  })
}

function absentAnswer(): Response {
  const has = '/v2/, /v2/<name>/manifests/<tag or digest> and /v2/<name>/blobs/<digest>'
  return errorAnswer(new OciError('UNSUPPORTED', `no such endpoint; a mirror has ${has}`, { status: 404 }))
}
