import { type Digest, parseDigest } from './digest.ts'
import { OciError } from './error.ts'
import { DEFAULT_REGISTRY, isRegistryComponent, locate, parseTag, type TaggedReference } from './reference.ts'

/** The content that a request of the registry API asks for. */
export type ContentTarget = ManifestTarget | BlobTarget
export type ManifestTarget = { readonly kind: 'manifest' } & (
  | ByDigest
  | (TaggedReference & { readonly digest?: never })
)
export type BlobTarget = { readonly kind: 'blob' } & ByDigest

interface ByDigest {
  readonly registry: string
  readonly repository: string
  readonly digest: Digest
  readonly tag?: never
}

/** Its end tells the endpoint, because `manifests` and `blobs` may also be components of a repository. */
const CONTENT_PATH = /^\/v2\/(.*)\/(manifests|blobs)\/([^/]*)$/
/** Characters that no registry, repository, tag or digest has. */
const FOREIGN = /[^A-Za-z0-9._:/[\]-]/

/**
 * Reads the path of a request from the request line, undecoded and without the query. Only colons (of a digest or a port) may
 * be percent-encoded, as some clients do. No other character needs it, so any other encoding is refused and never decoded:
 * `%2e`, `%2f`, `%5c` and `%00` have no effect. The grammar of repositories refuses empty components and `..`.
 *
 * @param ns the query's `ns`, in which containerd names the registry. Without it, a first component with a dot, a colon or
 *   `localhost` is the registry, and not part of the repository.
 * @param defaultRegistry the registry of a request that names none. Without it, such a request may ask only for a digest, which
 *   means the same everywhere and counts as docker.io's. A tag means something else in each registry.
 * @returns `undefined` for the base, and for endpoints that a mirror does not have
 * @throws {OciError} a 4xx: NAME_INVALID, the code of TAG_INVALID, DIGEST_INVALID, or NAME_UNKNOWN for a tag of no registry
 */
export function parseRequestPath(
  pathname: string,
  ns: string | undefined,
  defaultRegistry?: string | undefined,
): ContentTarget | undefined {
  const path = pathname.replace(/%3a/gi, ':')
  const at = path.search(FOREIGN)
  if (at >= 0) {
    const character = JSON.stringify(path.charAt(at))
    throw new OciError(
      'NAME_INVALID',
      `invalid path: character ${character} at ${at}; accepted are A-Z a-z 0-9 . _ - : [ ] and /, without percent-encoding`,
    )
  }
  const [, full, kind, argument = ''] = CONTENT_PATH.exec(path) ?? []
  if (full === undefined) return undefined
  const { isNamed, ...name } = locateNamed(full, ns, defaultRegistry)
  if (kind === 'blobs') return { kind: 'blob', ...name, digest: parseDigest(argument) }
  if (argument.includes(':')) return { kind: 'manifest', ...name, digest: parseDigest(argument) }
  const tag = parseTag(argument)
  if (isNamed) return { kind: 'manifest', ...name, tag }
  const how = 'ask for /v2/<registry>/<name>/..., or with ?ns=<registry>, or set --default-registry'
  throw new OciError('NAME_UNKNOWN', `${name.repository}:${tag} names no registry: ${how}`)
}

function locateNamed(name: string, ns: string | undefined, defaultRegistry: string | undefined) {
  if (ns !== undefined) return { isNamed: true, ...locate(ns, name) }
  const [first = '', ...rest] = name.split('/')
  if (isRegistryComponent(first)) return { isNamed: true, ...locate(first, rest.join('/')) }
  return { isNamed: defaultRegistry !== undefined, ...locate(defaultRegistry ?? DEFAULT_REGISTRY, name) }
}
