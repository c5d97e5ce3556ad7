import { Hono } from 'hono'
import type { Logger } from '../observe/log.ts'
import { OciError } from '../oci/error.ts'
import { type BlobTarget, type ManifestTarget, parseRequestPath } from '../oci/path.ts'
import type { Policy } from '../oci/policy.ts'
import { errorAnswer } from './answer.ts'

export interface DoorDependencies {
  readonly policy: Policy
  readonly log: Logger
}

/** Finds the content of a request that passed the policy; `undefined` is a miss. */
export type Answerer = (target: ManifestTarget | BlobTarget, request: Request) => Promise<Response | undefined>

/**
 * The pull half of the OCI distribution-spec 1.1 as a Hono app, without saying where content comes from: paths, methods,
 * the policy, and errors in the form of the spec. The registry door and the peer door differ only in their answerer.
 */
export function createDoor(name: string, { policy, log }: DoorDependencies, answer: Answerer): Hono {
  const app = new Hono()
  app.on(['GET', 'HEAD'], '*', async (c) => {
    const request = c.req.raw
    const target = readTarget(request)
    if (target instanceof OciError) return errorAnswer(target)
    if (target.kind === 'base') return baseAnswer()
    if (target.kind === 'other') {
      return errorAnswer(unsupported(`this mirror does not have the ${target.endpoint} endpoint`, 404))
    }
    const response = admits(policy, target) ? await answer(target, request).catch(throwAsError) : undefined
    return response ?? errorAnswer(unknown(target))
  })
  app.all('*', (c) =>
    errorAnswer(unsupported(`${c.req.method} is not supported: a mirror is read-only`, 405), { Allow: 'GET, HEAD' }),
  )
  // What the client is to be told is answered above: whatever is thrown is a failure of this node, an OciError too.
  app.onError((error, c) => {
    const request = { door: name, method: c.req.method, path: c.req.path }
    if (c.req.raw.signal.aborted) log.debug('client went away', request)
    else log.error('request failed', { ...request, error })
    return errorAnswer(new OciError('UNKNOWN', 'internal error; the log of this mirror has the cause'))
  })
  return app
}

/**
 * Makes an error of whatever was thrown, since Hono hands nothing else to `onError`: the reason of a request's signal, which
 * says that its client has left, is a string where `node:http` serves.
 */
function throwAsError(reason: unknown): never {
  throw reason instanceof Error ? reason : new Error(String(reason))
}

/** What the request asks for, or what is wrong with how it asks. */
function readTarget(request: Request): ReturnType<typeof parseRequestPath> | OciError {
  const url = new URL(request.url)
  try {
    return parseRequestPath(url.pathname, url.searchParams.get('ns') ?? undefined)
  } catch (error) {
    if (error instanceof OciError) return error
    throw error
  }
}

function admits(policy: Policy, { registry, repository, ...target }: ManifestTarget | BlobTarget): boolean {
  if (target.kind === 'blob' || 'digest' in target.reference) return policy.admits({ registry, repository })
  return policy.resolvesTags && policy.admits({ registry, repository, tag: target.reference.tag })
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

function unknown({ registry, repository, ...target }: ManifestTarget | BlobTarget): OciError {
  const name = `${registry}/${repository}`
  if (target.kind === 'blob') {
    return new OciError('BLOB_UNKNOWN', `blob ${target.digest} of ${name} is not known here`, { detail: { name } })
  }
  const reference = 'tag' in target.reference ? target.reference.tag : target.reference.digest
  return new OciError('MANIFEST_UNKNOWN', `manifest ${reference} of ${name} is not known here`, { detail: { name } })
}

function unsupported(message: string, status: number): OciError {
  return new OciError('UNSUPPORTED', message, { status })
}
