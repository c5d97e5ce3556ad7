import type { Digest } from '../oci/digest.ts'
import { MANIFEST_SIZE_LIMIT } from '../oci/media-type.ts'
import { bounded } from '../platform/abort.ts'
import { sourceResponse } from '../platform/byte-source.ts'
import type { ContentStore } from '../store/store.ts'

/** What this node's own store said. */
export interface LocalAnswer<T> {
  /** Missing if it does not have it, or could not be asked. */
  readonly value?: T | undefined
  /** Milliseconds until it had answered. */
  readonly ms: number
  /** Why it could not be asked, in words. */
  readonly problem?: string | undefined
}

/** A manifest or index with its bytes, which are those of its digest. */
export interface TracedManifest {
  readonly mediaType: string
  readonly bytes: Uint8Array
}

/** How long one question may take, in milliseconds: one when all is well, for ever with a containerd that hangs. */
const LIMIT = 2_000

/**
 * Asks this node's own store for a trace, which goes on without it: a page that tells what is wrong must not hang with
 * it. After one failure nothing more is asked, since every question would wait as long.
 */
export function createLocalAsker(store: ContentStore, limit = LIMIT) {
  let problem: string | undefined
  return async <T>(
    question: (store: ContentStore, signal: AbortSignal) => Promise<T | undefined>,
    signal: AbortSignal,
  ): Promise<LocalAnswer<T>> => {
    if (problem !== undefined) return { ms: 0, problem }
    const startedAt = performance.now()
    try {
      const value = await bounded(limit, signal, (over) => question(store, over))
      return { value, ms: performance.now() - startedAt }
    } catch (error) {
      signal.throwIfAborted()
      problem = error instanceof Error ? error.message : String(error)
      return { ms: performance.now() - startedAt, problem }
    }
  }
}

export type LocalAsker = ReturnType<typeof createLocalAsker>

/** The manifest, if this node has it. */
export async function readHere(
  store: ContentStore,
  digest: Digest,
  signal: AbortSignal,
): Promise<TracedManifest | undefined> {
  const descriptor = await store.describe(digest, signal)
  if (descriptor === undefined || descriptor.size > MANIFEST_SIZE_LIMIT) return undefined
  const body = await store.open(digest, undefined, signal)
  if (body === undefined) return undefined
  return { mediaType: descriptor.mediaType, bytes: new Uint8Array(await sourceResponse(body, {}).arrayBuffer()) }
}
