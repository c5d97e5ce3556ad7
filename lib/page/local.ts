import { bounded } from '../platform/abort.ts'
import type { ContentStore } from '../store/store.ts'

/** What this node's own store said. */
export interface LocalAnswer<T> {
  /** Missing if it has not got it, or could not be asked. */
  readonly value?: T | undefined
  /** Milliseconds until it had answered. */
  readonly ms: number
  /** Why it could not be asked, in words. */
  readonly problem?: string | undefined
}

/** How long one question may take, in milliseconds. It takes one when all is well; a containerd that hangs takes for ever. */
const LIMIT = 2_000

/**
 * Asks this node's own store on behalf of a trace, which goes on without it: a page that tells what is wrong must not
 * hang with what it tells about. After one failure nothing more is asked, since all else would wait as long.
 */
export function createLocalAsker(store: ContentStore, { limit = LIMIT }: { readonly limit?: number | undefined } = {}) {
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
