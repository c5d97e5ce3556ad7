import { fullReferenceOf } from './reference.ts'

/** An image as the policy sees it; without a tag where only its digest is known. */
export interface ImageName {
  readonly registry: string
  readonly repository: string
  readonly tag?: string | undefined
}

/** What this node mirrors. It neither serves nor announces anything else. */
export interface Policy {
  /** Whether an image of that name is mirrored. */
  readonly admits: (name: ImageName) => boolean
  /** Whether there are images that are not. */
  readonly isSelective: boolean
  /** Whether a tag may be resolved here, or only upstream. */
  readonly resolvesTags: boolean
  /** Whether the registry and the repository of an image are all that the policy looks at. */
  readonly needsNoTag: boolean
}

export interface PolicyOptions {
  /** The registries that are mirrored; all if missing. */
  readonly registries?: ReadonlySet<string> | undefined
  /** Images whose `registry/repository:tag` matches one of these are not mirrored; without a tag, nothing follows the colon. */
  readonly exclude?: readonly RegExp[] | undefined
  readonly resolvesTags?: boolean
}

export function createPolicy({ registries, exclude = [], resolvesTags = true }: PolicyOptions = {}): Policy {
  return {
    admits({ registry, repository, tag = '' }) {
      if (registries !== undefined && !registries.has(registry)) return false
      const name = `${registry}/${repository}:${tag}`
      // search() ignores the state that a global or sticky expression keeps between tests.
      return !exclude.some((pattern) => name.search(pattern) >= 0)
    },
    isSelective: registries !== undefined || exclude.length > 0,
    resolvesTags,
    needsNoTag: exclude.length === 0,
  }
}

/**
 * Applies the policy to all names of one piece of content. If there are tags, they decide, since the other names that
 * containerd keeps beside a tag (`repository@digest`, `sha256:...`) mean the same image; without a tag the repositories
 * decide. Content without any such name belongs to no registry. Free text that tools write beside it counts as the name
 * that it looks like, so that such text cannot get around the policy.
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

/** The image that free text looks like: `registry.example/app` without a tag, `app:1` without a registry. */
function looselyRead(text: string): ImageName {
  const [name = ''] = text.split('@', 1)
  const [, registry = '', rest = ''] = /^(?:([^/]*[.:][^/]*|localhost)\/)?(.*)$/s.exec(name) ?? []
  const [, repository = rest, tag] = /^(.*):([^:/]*)$/s.exec(rest) ?? []
  return { registry, repository, tag }
}
