import { type FSWatcher, watch } from 'node:fs'
import { stat } from 'node:fs/promises'
import { basename } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { unlessMissing } from './missing.ts'

/**
 * Milliseconds that a watch takes to end. On Deno 2.9, its end would take with it another one of the same path that has begun
 * meanwhile.
 */
const ENDING = 30

export interface DirectoryEvent {
  readonly directory: string
  /** The file's name; `undefined` if the system does not say. */
  readonly name: string | undefined
  /** `rename` if a name came or went, `change` for everything else. */
  readonly kind: 'rename' | 'change'
}

interface Watched {
  readonly identity: string
  readonly watcher: FSWatcher
}

/**
 * Makes a watcher of directories, as far as the system allows. It watches none yet.
 *
 * @param onEvent called for each file in a watched directory that was made, changed, renamed or removed
 * @param onFailure called when a directory cannot be watched (a limit of inotify, a file system without events)
 */
export function createDirectoryWatcher(
  onEvent: (event: DirectoryEvent) => void,
  onFailure: (path: string, error: unknown) => void,
) {
  const watched = new Map<string, Watched>()
  let closed = false

  function drop(path: string): void {
    watched.get(path)?.watcher.close()
    watched.delete(path)
  }

  function add(path: string, identity: string): void {
    try {
      const watcher = watch(path, { persistent: false }, (kind, name) =>
        onEvent({ directory: path, name: name === null ? undefined : basename(name), kind }),
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
    /**
     * Watches exactly these directories from now on, as far as they exist. A directory that has replaced another of the same
     * name is watched anew.
     *
     * @returns the directories that were not watched before
     * @throws the file system's error for a directory
     */
    async cover(paths: readonly string[]): Promise<string[]> {
      let hasDropped = false
      for (const path of watched.keys()) {
        if (paths.includes(path) && (await identityOf(path)) === watched.get(path)?.identity) continue
        drop(path)
        hasDropped = true
      }
      if (hasDropped) await delay(ENDING)
      const added: string[] = []
      for (const path of paths) {
        if (watched.has(path)) continue
        const identity = await identityOf(path)
        // Another call may have watched it meanwhile.
        if (identity === undefined || closed || watched.has(path)) continue
        add(path, identity)
        added.push(path)
      }
      return added
    },
    /** Whether a directory is watched now. */
    watches: (path: string): boolean => watched.has(path),
    close(): void {
      closed = true
      for (const path of [...watched.keys()]) drop(path)
    },
  }
}

/** Tells a directory from a later one of the same name, which ext4 often gives the same inode. */
async function identityOf(path: string): Promise<string | undefined> {
  const found = await unlessMissing(stat(path, { bigint: true }))
  return found && `${found.dev}:${found.ino}:${found.birthtimeNs}`
}
