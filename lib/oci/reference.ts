import { isIPv6 } from 'node:net'
import { type Digest, isDigest, parseDigest } from './digest.ts'
import { echo, OciError, TAG_INVALID } from './error.ts'

/** The full name of an image: `registry` with its port, `repository`, and a tag, a digest, or both. */
export interface Reference {
  readonly registry: string
  readonly repository: string
  readonly tag?: string
  readonly digest?: Digest
}

/** A reference with a tag. */
export interface TaggedReference {
  readonly registry: string
  readonly repository: string
  readonly tag: string
}

/** Longest repository, in characters: the limit of distribution/reference, which containerd and Docker share. */
export const REPOSITORY_LIMIT = 255

/** Longest tag, in characters (distribution-spec 1.1, "Pulling manifests"). */
export const TAG_LIMIT = 128

/** Longest host name, in characters without the port (RFC 1035, section 2.3.4, as text). */
export const HOST_LIMIT = 253

/** The registry of a name that names none. */
export const DEFAULT_REGISTRY = 'docker.io'

/** The tag of a name that has neither tag nor digest. */
export const DEFAULT_TAG = 'latest'

/** Another name of Docker Hub, which distribution/reference turns into `docker.io`. */
const HUB_ALIAS = 'index.docker.io'

/** The namespace of Docker Hub's repositories of one component. */
const HUB_LIBRARY = 'library'

const HOST_LABEL = /^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?$/
const IN_BRACKETS = /^\[([0-9a-f:.]+)\]$/
const REPOSITORY_COMPONENT = /^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*$/
const TAG = /^[A-Za-z0-9_][A-Za-z0-9._-]*$/

/** The identifier of an image or a container: 64 hex digits, never a repository (distribution/reference). */
const BARE_ID = /^[0-9a-f]{64}$/

/**
 * Reads a name as people write it. `alpine` is `docker.io/library/alpine:latest`. The registry is docker.io unless the first
 * component has a dot or a colon or is `localhost`. Docker Hub's repositories of one component are in `library`. The tag is
 * `latest` only if neither tag nor digest is given, because a digest alone says which image is meant. Bare digests and
 * identifiers (`sha256:...`, 64 hex digits) name no repository and are refused.
 *
 * @throws {OciError} NAME_INVALID, the code of TAG_INVALID, or DIGEST_INVALID
 */
export function parseReference(text: string): Reference {
  const { registry, repository, tag, digest } = split(text)
  const named = locate(registry ?? DEFAULT_REGISTRY, repository)
  if (tag === undefined && digest === undefined) return { ...named, tag: DEFAULT_TAG }
  return { ...named, ...(tag === undefined ? {} : { tag }), ...(digest === undefined ? {} : { digest }) }
}

/**
 * Reads a complete name, as containerd stores it, with a registry and a tag or a digest. It adds nothing: a bare `latest` or
 * `alpine:3.20` is no image of Docker Hub.
 *
 * @returns `undefined` for any other text, because containerd and layouts allow free text
 */
export function fullReferenceOf(name: string): Reference | undefined {
  try {
    const { registry, tag, digest } = split(name)
    return registry === undefined || (tag === undefined && digest === undefined) ? undefined : parseReference(name)
  } catch (error) {
    if (error instanceof OciError) return undefined
    throw error
  }
}

/** The full name, which {@link parseReference} reads back as the same reference. */
export function formatReference(reference: Reference): string {
  const tag = reference.tag === undefined ? '' : `:${reference.tag}`
  const digest = reference.digest === undefined ? '' : `@${reference.digest}`
  return `${reference.registry}/${reference.repository}${tag}${digest}`
}

/**
 * Reads a registry: a host name, an IPv4 address or an IPv6 address in brackets, with an optional port. Returns it in lower
 * case, and `index.docker.io` as docker.io.
 *
 * @throws {OciError} NAME_INVALID
 */
export function parseRegistry(text: string): string {
  const registry = text.toLowerCase()
  const { host, port } = splitPort(registry)
  if (port !== undefined && !isPort(port)) {
    throw invalidName('registry', text, `port ${echo(port)} is not a number from 1 to 65535`)
  }
  if (host.startsWith('[')) {
    if (!isIPv6(IN_BRACKETS.exec(host)?.[1] ?? ''))
      throw invalidName('registry', text, 'not an IPv6 address in brackets')
    return registry
  }
  if (host.length > HOST_LIMIT) {
    throw invalidName('registry', text, `host of ${host.length} characters, at most ${HOST_LIMIT}`)
  }
  for (const label of host.split('.')) {
    if (!HOST_LABEL.test(label)) throw invalidName('registry', text, `${echo(label)} is not a label of a host name`)
  }
  return registry === HUB_ALIAS ? DEFAULT_REGISTRY : registry
}

/**
 * Reads a repository: components joined by slashes, at most {@link REPOSITORY_LIMIT} characters. A component has lower-case
 * letters and digits, with a dot, one or two underscores, or hyphens between them.
 *
 * @throws {OciError} NAME_INVALID
 */
export function parseRepository(name: string): string {
  if (name.length > REPOSITORY_LIMIT) {
    throw invalidName('repository', name, `${name.length} characters, at most ${REPOSITORY_LIMIT}`)
  }
  let at = 0
  for (const component of name.split('/')) {
    if (component === '') throw invalidName('repository', name, `empty component at character ${at}`)
    if (!REPOSITORY_COMPONENT.test(component)) {
      throw invalidName('repository', name, `component ${echo(component)} at character ${at}`)
    }
    at += component.length + 1
  }
  return name
}

/**
 * Reads a tag: letters, digits, underscores, dots and hyphens, but no dot or hyphen at the start; at most {@link TAG_LIMIT}
 * characters.
 *
 * @throws {OciError} with the code of TAG_INVALID
 */
export function parseTag(text: string): string {
  if (TAG.test(text) && text.length <= TAG_LIMIT) return text
  const problem =
    text.length > TAG_LIMIT
      ? `${text.length} characters`
      : text === ''
        ? 'it is empty'
        : `character ${echo(text.charAt(badTagCharacter(text)))} at ${badTagCharacter(text)}`
  throw new OciError(
    TAG_INVALID,
    `invalid tag ${echo(text)}: ${problem}; accepted are 1 to ${TAG_LIMIT} of A-Z a-z 0-9 _ . -, not starting with . or -`,
  )
}

/** Whether the first component of a name is a registry: it has a dot or a colon, or is `localhost`. */
export function isRegistryComponent(component: string): boolean {
  return component.includes('.') || component.includes(':') || component.toLowerCase() === 'localhost'
}

/**
 * Checks registry and repository, and adds Docker Hub's `library/` to a repository of one component.
 *
 * @throws {OciError} NAME_INVALID
 */
export function locate(registry: string, repository: string): { registry: string; repository: string } {
  const host = parseRegistry(registry)
  const inLibrary = host === DEFAULT_REGISTRY && repository !== '' && !repository.includes('/')
  return { registry: host, repository: parseRepository(inLibrary ? `${HUB_LIBRARY}/${repository}` : repository) }
}

/** Splits a name into its parts. Checks tag and digest, but not registry and repository. */
function split(text: string) {
  if (isDigest(text) || BARE_ID.test(text)) {
    throw invalidName('reference', text, 'an identifier, which names no repository')
  }
  const at = text.indexOf('@')
  const name = at < 0 ? text : text.slice(0, at)
  const digest = at < 0 ? undefined : parseDigest(text.slice(at + 1))
  const colon = name.indexOf(':', name.lastIndexOf('/') + 1)
  const path = colon < 0 ? name : name.slice(0, colon)
  const tag = colon < 0 ? undefined : parseTag(name.slice(colon + 1))
  const slash = path.indexOf('/')
  const first = path.slice(0, Math.max(slash, 0))
  if (!isRegistryComponent(first)) return { registry: undefined, repository: path, tag, digest }
  return { registry: first, repository: path.slice(slash + 1), tag, digest }
}

/** Splits off the port, which follows the last colon outside brackets. */
function splitPort(registry: string): { host: string; port: string | undefined } {
  const colon = registry.indexOf(':', registry.lastIndexOf(']') + 1)
  if (colon < 0) return { host: registry, port: undefined }
  return { host: registry.slice(0, colon), port: registry.slice(colon + 1) }
}

function isPort(text: string): boolean {
  return /^[0-9]{1,5}$/.test(text) && Number(text) >= 1 && Number(text) <= 65535
}

function badTagCharacter(text: string): number {
  return /^[.-]/.test(text) ? 0 : text.search(/[^A-Za-z0-9._-]/)
}

const ACCEPTED = {
  registry: 'a host name, an IPv4 address or an IPv6 address in brackets, with an optional port',
  repository: `components of a-z 0-9 with single . or _, __ or hyphens between them, joined by /, at most ${REPOSITORY_LIMIT} characters`,
  reference: '[registry/]repository[:tag][@digest]',
} as const

function invalidName(what: keyof typeof ACCEPTED, text: string, problem: string): OciError {
  return new OciError('NAME_INVALID', `invalid ${what} ${echo(text)}: ${problem}; accepted: ${ACCEPTED[what]}`)
}
