import { fullReferenceOf, type Reference } from './reference.ts'

/** Which images this node mirrors. It neither serves nor announces others. */
export interface Policy {
  /** Whether an image of that name is mirrored; its digest does not matter. */
  readonly admits: (name: Reference) => boolean
  /**
   * Whether images of a repository are mirrored, as far as can be told from where containerd says that content came from: a host
   * without its port, a repository, and no tag. Missing if every image is mirrored.
   */
  readonly admitsSource?: ((host: string, repository: string) => boolean) | undefined
  /** Whether a tag may be resolved here, or only upstream. */
  readonly resolvesTags: boolean
  /** Whether the policy looks only at the registry and the repository of an image. */
  readonly needsNoTag: boolean
}

export interface PolicyOptions {
  /** The registries that are mirrored; all if missing. */
  readonly registries?: ReadonlySet<string> | undefined
  /**
   * Images whose `registry/repository:tag` matches one of these are not mirrored. Nothing follows the colon if there is no tag.
   */
  readonly exclude?: readonly RegExp[] | undefined
  readonly resolvesTags?: boolean
}

export function createPolicy({ registries, exclude = [], resolvesTags = true }: PolicyOptions = {}): Policy {
  // `search` ignores the state that a global or sticky expression keeps between calls.
  const isExcluded = (name: string) => exclude.some((pattern) => name.search(pattern) >= 0)
  const hosts = registries && new Set([...registries].map((name) => name.replace(/:\d+$/, '').replace(/[[\]]/g, '')))
  return {
    admits({ registry, repository, tag = '' }) {
      return (registries?.has(registry) ?? true) && !isExcluded(`${registry}/${repository}:${tag}`)
    },
    ...((registries !== undefined || exclude.length > 0) && {
      admitsSource: (host: string, repository: string) =>
        (hosts?.has(host) ?? true) && !isExcluded(`${host}/${repository}:`),
    }),
    resolvesTags,
    needsNoTag: exclude.length === 0,
  }
}

/**
 * Applies the policy to all names of one piece of content. If it has tags, they decide, because the other names that containerd
 * keeps beside a tag (`repository@digest`, `sha256:...`) mean the same image. Without a tag, the repositories decide. Content
 * with neither belongs to no registry; then free text that tools wrote counts as the name that it looks like, so that nobody
 * gets around the policy with it.
 *
 * @returns the names that may be used, without the tags that are not admitted; `undefined` if the content is not admitted
 */
export function admittedNames(names: readonly string[], admits: Policy['admits']): readonly string[] | undefined {
  const parsed = names.map((name) => ({ name, image: fullReferenceOf(name) }))
  const tagged = parsed.filter(({ image }) => image?.tag !== undefined)
  const known = tagged.length > 0 ? tagged : parsed.filter(({ image }) => image !== undefined)
  const isAdmitted =
    known.length > 0
      ? known.some(({ image }) => image !== undefined && admits(image))
      : [{ registry: '', repository: '' }, ...names.map(looselyRead)].every(admits)
  if (!isAdmitted) return undefined
  return parsed.filter(({ image }) => image?.tag === undefined || admits(image)).map(({ name }) => name)
}

/** The image that free text looks like, such as `registry.example/app` without a tag or `app:1` without a registry. */
function looselyRead(text: string): Reference {
  const [name = ''] = text.split('@', 1)
  const [, registry = '', rest = ''] = /^(?:([^/.:]*[.:][^/]*|localhost)\/)?(.*)$/s.exec(name) ?? []
  const [, repository = rest, tag] = /^(.*):([^:/]*)$/s.exec(rest) ?? []
  return { registry, repository, ...(tag !== undefined && { tag }) }
}
