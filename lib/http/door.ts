import { Hono, type MiddlewareHandler } from 'hono'
import { RegExpRouter } from 'hono/router/reg-exp-router'
import { boundedLog, type Logger } from '../observe/log.ts'
import type { Descriptor } from '../oci/digest.ts'
import { errorAnswer, OciError } from '../oci/error.ts'
import { type ContentTarget, digestNamed, tagNamed } from '../oci/path.ts'
import type { Policy } from '../oci/policy.ts'
import type { Admission } from '../platform/listener.ts'
import type { DOORS } from './metrics.ts'

/** What the middlewares of a door know of a request, beside the request itself. */
export interface DoorEnv {
  Bindings: { readonly admission?: Admission | undefined }
  Variables: {
    /** What it asks for; set for every request of content, and only for those. */
    target: ContentTarget
    /** Whether upstream is to answer it, and so this mirror does not. */
    isForUpstream?: boolean
    /** What its answer gives; missing where that has no content. */
    content?: GivenContent
  }
}

export interface GivenContent {
  /** This node, or another one. */
  readonly source: 'local' | 'peer'
  /** Bytes of the body, as declared; 0 for HEAD. */
  readonly bytes: number
  /** Of the whole content. */
  readonly descriptor: Descriptor
}

export type DoorMiddleware = MiddlewareHandler<DoorEnv>

export interface DoorDependencies {
  readonly policy: Policy
  readonly log: Logger
}

export interface Door {
  /** @param admission of the server that asks; without it a door refuses no request for being one too many */
  fetch(request: Request, admission?: Admission): Response | Promise<Response>
}

/**
 * The pull half of the OCI distribution-spec 1.1, read-only. The registry door and the peer door differ in who may ask and
 * in where content comes from.
 *
 * @param checks for every request, in this order; they set the target
 * @param sources for a request of content that the policy admits: each answers or passes on, and the last one is a miss
 */
export function createDoor(
  name: (typeof DOORS)[number],
  { policy, log }: DoorDependencies,
  checks: readonly DoorMiddleware[],
  sources: readonly DoorMiddleware[],
): Door {
  const bounded = boundedLog(log)
  // Hono's default falls back to a router that takes a second for a path of a thousand `manifests/`; this one refuses, when
  // it is built, a route that it cannot match in one expression. It gets the path as it was sent, which Hono would decode.
  const door = new Hono<DoorEnv>({ router: new RegExpRouter(), getPath: ({ url }) => new URL(url).pathname })
  door.use(...checks, throwErrors())
  door.on('GET', ['/v2', '/v2/'], baseAnswer)
  for (const content of ['/v2/:name{.+}/manifests/:reference', '/v2/:name{.+}/blobs/:digest']) {
    door.get(content, admitted(policy), ...sources, (c) => unknownAnswer(c.get('target')))
  }
  door.get('/v2/:name{.+}/tags/list', () => absentAnswer('listing tags'))
  door.get('/v2/:name{.+}/referrers/:digest', () => absentAnswer('the referrers API'))
  door.notFound(() => absentAnswer('this endpoint'))
  // A check answers what the client did wrong. Whatever is thrown is a failure of this node, an OciError too.
  door.onError((error, c) => {
    const request = { door: name, method: c.req.method, path: c.req.path }
    if (c.req.raw.signal.aborted) bounded.debug('client went away', request)
    else bounded.error('request failed', { ...request, error })
    return errorAnswer(new OciError('UNKNOWN', 'internal error; the log of this mirror has the cause'))
  })
  return { fetch: (request, admission) => door.fetch(request, { admission }) }
}

/**
 * Makes an error of what is none, which Hono does not hand to `onError`: where `node:http` serves, the signal of a client
 * that leaves aborts with a string.
 */
function throwErrors(): DoorMiddleware {
  return async function throwErrors(_, next) {
    try {
      await next()
    } catch (reason) {
      throw new Error(String(reason))
    }
  }
}

/** Answers with a miss, whatever there is, for an image that this node does not mirror. */
function admitted(policy: Policy): DoorMiddleware {
  return async function admitted(c, next) {
    // The routes match `/v2/<name>/blobs/uploads`, too, which begins a push and names no content.
    const target: ContentTarget | undefined = c.get('target')
    if (target === undefined) return absentAnswer('this endpoint')
    const tagged = tagNamed(target)
    const isAdmitted = policy.admits(tagged ?? target) && (tagged === undefined || policy.resolvesTags)
    return isAdmitted ? await next() : unknownAnswer(target)
  }
}

/** The 404 of a miss. */
function unknownAnswer(target: ContentTarget): Response {
  const name = `${target.registry}/${target.repository}`
  const reference = tagNamed(target)?.tag ?? digestNamed(target)
  const code = target.kind === 'blob' ? 'BLOB_UNKNOWN' : 'MANIFEST_UNKNOWN'
  return errorAnswer(
    new OciError(code, `${target.kind} ${reference} of ${name} is not known here`, { detail: { name } }),
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

function absentAnswer(what: string): Response {
  return errorAnswer(new OciError('UNSUPPORTED', `this mirror does not have ${what}`, { status: 404 }))
}
