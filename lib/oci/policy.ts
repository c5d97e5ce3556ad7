import type { TaggedReference } from './reference.ts'

/** What this node mirrors; what it does not, it neither serves nor announces. */
export interface Policy {
  /** Whether anything of the registry is mirrored. */
  admitsRegistry(registry: string): boolean
  /** Whether an image of that name is mirrored. */
  admitsImage(name: TaggedReference): boolean
  /** Whether a tag may be resolved here, or only upstream. */
  readonly resolvesTags: boolean
}

export interface PolicyOptions {
  /** The registries that are mirrored; all if missing. */
  readonly registries?: ReadonlySet<string> | undefined
  /** Images whose `registry/repository:tag` matches one of these are not mirrored. */
  readonly exclude?: readonly RegExp[] | undefined
  readonly resolvesTags?: boolean
}

export function createPolicy({ registries, exclude = [], resolvesTags = true }: PolicyOptions = {}): Policy {
  const admitsRegistry = (registry: string) => registries === undefined || registries.has(registry)
  return {
    admitsRegistry,
    admitsImage({ registry, repository, tag }) {
      const name = `${registry}/${repository}:${tag}`
      // search() ignores the state that a global or sticky expression keeps between tests.
      return admitsRegistry(registry) && !exclude.some((pattern) => name.search(pattern) >= 0)
    },
    resolvesTags,
  }
}
