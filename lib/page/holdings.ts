import type { Logger } from '../observe/log.ts'
import { isDigest } from '../oci/digest.ts'
import type { Key } from '../oci/key.ts'
import { bounded } from '../platform/abort.ts'
import type { ContentStore } from '../store/store.ts'

/** The content that this node holds and offers, for people. */
export interface Held {
  /** `registry/repository:tag`, in alphabetical order. */
  readonly images: readonly string[]
  /** How many more images there are than are listed. */
  readonly more: number
  readonly digests: number
  /** Sum of the sizes that are known so far. */
  readonly bytes: number
  /** How many digests have a size that is not known yet. */
  readonly unsized: number
}

const LIMITS = {
  /** How many images are listed: more than a node usually has (kubelet keeps a few dozen), and few enough for a page. */
  listed: 200,
  /** How many sizes each look asks for. */
  batch: 200,
  /** Milliseconds that a batch may take. A size takes one millisecond, and a page must not wait for a containerd that hangs. */
  patience: 500,
}

/**
 * Sums up the content that is held. Each look asks for some of the unknown sizes, and keeps a size as long as its digest is
 * held.
 */
export function createHoldings(
  { store, held, log }: { readonly store: ContentStore; readonly held: ReadonlySet<Key>; readonly log: Logger },
  limits: Partial<typeof LIMITS> = {},
) {
  const { listed, batch, patience } = { ...LIMITS, ...limits }
  const sizes = new Map<string, number>()
  return async (signal: AbortSignal): Promise<Held> => {
    const keys = [...held]
    const digests = keys.map(String).filter(isDigest)
    const images = keys.filter((key) => !isDigest(key)).sort()
    const unknown = digests.filter((digest) => !sizes.has(digest)).slice(0, batch)
    if (sizes.size > digests.length)
      for (const digest of sizes.keys()) if (!held.has(digest as Key)) sizes.delete(digest)
    try {
      await bounded(patience, signal, async (over) => {
        for (const digest of unknown) {
          const descriptor = await store.describe(digest, over)
          // If the content has just gone, its digest will leave `held` soon.
          if (descriptor !== undefined) sizes.set(digest, descriptor.size)
        }
      })
    } catch (error) {
      signal.throwIfAborted()
      // The page must work without containerd, to say that it is down. The next look asks again.
      log.debug('sizes unknown', { error })
    }
    let bytes = 0
    for (const digest of digests) bytes += sizes.get(digest) ?? 0
    return {
      images: images.slice(0, listed),
      more: Math.max(images.length - listed, 0),
      digests: digests.length,
      bytes,
      unsized: digests.filter((digest) => !sizes.has(digest)).length,
    }
  }
}
