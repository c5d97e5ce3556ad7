import type { Key } from '../oci/key.ts'
import { orAborted } from '../platform/abort.ts'
import type { ContentChange } from './store.ts'

/** The changes that a watcher has not got yet: true for an added key, false for a removed one. */
type Pending = Map<Key, boolean>

/**
 * The set of keys that a store holds, for {@link ContentStore.watch}. Each watcher gets all keys first, and then what has
 * changed since it last asked. So a slow watcher gets fewer and larger changes, and its queue stays bounded.
 */
export class ContentFeed {
  readonly #held = new Set<Key>()
  readonly held: ReadonlySet<Key> = this.#held
  readonly #watchers = new Set<Pending>()
  #changed = Promise.withResolvers<void>()
  #closed = false

  /** How many watchers there are. */
  get watchers(): number {
    return this.#watchers.size
  }

  /** Replaces the set of held keys. */
  replace(next: ReadonlySet<Key>): void {
    this.update({ added: next, removed: [...this.#held].filter((key) => !next.has(key)) })
  }

  /** Adds and removes keys. Adding a key that is there and removing one that is gone change nothing. */
  update({ added = [], removed = [] }: { readonly added?: Iterable<Key>; readonly removed?: Iterable<Key> }): void {
    for (const key of removed) if (this.#held.delete(key)) this.#note(key, false)
    for (const key of added) {
      if (this.#held.has(key)) continue
      this.#held.add(key)
      this.#note(key, true)
    }
    this.#wake()
  }

  /** Ends when the signal aborts or the feed is closed, without throwing. */
  async *watch(signal: AbortSignal): AsyncGenerator<ContentChange, void, undefined> {
    if (this.#closed || signal.aborted) return
    const pending: Pending = new Map()
    this.#watchers.add(pending)
    try {
      yield { added: [...this.#held], removed: [] }
      while (!this.#closed && !signal.aborted) {
        if (pending.size === 0) await orAborted(this.#changed.promise, signal)
        else yield take(pending)
      }
    } finally {
      this.#watchers.delete(pending)
    }
  }

  /** Ends every watcher. */
  close(): void {
    this.#closed = true
    this.#wake()
  }

  #note(key: Key, isAdded: boolean): void {
    for (const pending of this.#watchers) {
      // If a key went and came back before the watcher asked, nothing has changed for the watcher.
      if (pending.get(key) === !isAdded) pending.delete(key)
      else pending.set(key, isAdded)
    }
  }

  #wake(): void {
    this.#changed.resolve()
    this.#changed = Promise.withResolvers()
  }
}

function take(pending: Pending): ContentChange {
  const keys = [...pending]
  pending.clear()
  const those = (isAdded: boolean) => keys.filter(([, added]) => added === isAdded).map(([key]) => key)
  return { added: those(true), removed: those(false) }
}
