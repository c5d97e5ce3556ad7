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
