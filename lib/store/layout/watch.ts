import { type FSWatcher, watch } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { isMissing } from './files.ts'

/** Watches directories, as far as the system can. */
export interface DirectoryWatcher {
  /**
   * Makes exactly these directories watched, those that do not exist left out. One that was replaced by another of the
   * same name is watched anew.
   *
   * @throws what the file system throws when asked for a directory
   */
  cover(paths: readonly string[]): Promise<void>
  close(): void
}

interface Watched {
  readonly identity: string
  readonly watcher: FSWatcher
}

/**
 * Makes a watcher that covers nothing yet.
 *
 * @param onEvent told the name of a file that was made, changed, renamed or removed; `undefined` if the system does not say
 * @param onFailure told when a directory cannot be watched (a limit of inotify, a file system without events)
 */
export function createDirectoryWatcher(
  onEvent: (name: string | undefined) => void,
  onFailure: (path: string, error: unknown) => void,
): DirectoryWatcher {
  const watched = new Map<string, Watched>()
  let closed = false

  function drop(path: string): void {
    watched.get(path)?.watcher.close()
    watched.delete(path)
  }

  function add(path: string, identity: string): void {
    try {
      const watcher = watch(path, { persistent: false }, (_, name) =>
        onEvent(name === null ? undefined : basename(name)),
      )
      watched.set(path, { identity, watcher })
      watcher.on('error', (error) => {
        if (watched.get(path)?.watcher === watcher) drop(path)
        onFailure(path, error)
      })
    } catch (error) {
      onFailure(path, error)
    }
  }

  return {
    async cover(paths) {
      for (const path of watched.keys()) if (!paths.includes(path)) drop(path)
      for (const path of paths) {
        const identity = await identityOf(path)
        if (watched.get(path)?.identity === identity) continue
        drop(path)
        if (identity !== undefined && !closed) add(path, identity)
      }
    },
    close() {
      closed = true
      for (const path of [...watched.keys()]) drop(path)
    },
  }
}

/** What tells a directory from its successor of the same name. */
async function identityOf(path: string): Promise<string | undefined> {
  try {
    const { dev, ino } = await stat(path, { bigint: true })
    return `${dev}:${ino}`
  } catch (error) {
    if (isMissing(error)) return undefined
    throw error
  }
}
