import type { Key } from '../oci/key.ts'
import type { ContentChange } from './store.ts'

/**
 * The set of keys that a store holds, and its watchers. It is what {@link ContentStore.watch} needs behind it: each
 * watcher is told everything once and then what changed since it last asked, so that a slow one gets fewer and larger
 * changes and never an unbounded queue.
 */
export interface ContentFeed {
  readonly held: ReadonlySet<Key>
  /** Makes `next` the set that is held. */
  replace(next: ReadonlySet<Key>): void
  /** Adds and removes single keys; those that are there or gone already change nothing. */
  update(change: { readonly added?: Iterable<Key>; readonly removed?: Iterable<Key> }): void
  /** Ends when the signal aborts or the feed is closed, without throwing. */
  watch(signal: AbortSignal): AsyncGenerator<ContentChange, void, undefined>
  /** How many watchers there are. */
  readonly watchers: number
  /** Ends every watcher. */
  close(): void
}

/** What one watcher has not been told yet: true for an added key, false for a removed one. */
interface Watcher {
  readonly pending: Map<Key, boolean>
  wake: () => void
}

/** Makes a feed that holds nothing yet. */
export function createContentFeed(): ContentFeed {
  const held = new Set<Key>()
  const watchers = new Set<Watcher>()
  let closed = false

  function note(key: Key, added: boolean): void {
    if (added) held.add(key)
    else held.delete(key)
    for (const { pending } of watchers) {
      // A key that went and came back before the watcher asked has not changed for it.
      if (pending.get(key) === !added) pending.delete(key)
      else pending.set(key, added)
    }
  }

  function wakeAll(): void {
    for (const watcher of watchers) watcher.wake()
  }

  return {
    held,
    get watchers() {
      return watchers.size
    },
    replace(next) {
      for (const key of held) if (!next.has(key)) note(key, false)
      for (const key of next) if (!held.has(key)) note(key, true)
      wakeAll()
    },
    update({ added = [], removed = [] }) {
      for (const key of removed) if (held.has(key)) note(key, false)
      for (const key of added) if (!held.has(key)) note(key, true)
      wakeAll()
    },
    async *watch(signal) {
      if (closed || signal.aborted) return
      const watcher: Watcher = { pending: new Map(), wake: () => undefined }
      const wake = () => watcher.wake()
      watchers.add(watcher)
      signal.addEventListener('abort', wake)
      try {
        yield { added: [...held], removed: [] }
        while (!closed && !signal.aborted) {
          if (watcher.pending.size > 0) {
            yield take(watcher.pending)
          } else {
            await new Promise<void>((resolve) => {
              watcher.wake = resolve
            })
          }
        }
      } finally {
        signal.removeEventListener('abort', wake)
        watchers.delete(watcher)
      }
    },
    close() {
      closed = true
      wakeAll()
    },
  }
}

function take(pending: Map<Key, boolean>): ContentChange {
  const added: Key[] = []
  const removed: Key[] = []
  for (const [key, isAdded] of pending) (isAdded ? added : removed).push(key)
  pending.clear()
  return { added, removed }
}
