import { access, constants, open } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from '../../observe/log.ts'
import { algorithmOf, type Digest, hexOf } from '../../oci/digest.ts'

/** containerd's blobs as files of this process, if it can read them. */
export interface ContentFiles {
  /** Looks whether files below this root are readable, and logs the answer when it is another than before. */
  check(root: string | undefined): Promise<void>
  /** The file of a digest, if it is readable and has that size in bytes. Says nothing about namespaces. */
  find(digest: Digest, size: number): Promise<string | undefined>
}

export function createContentFiles(log: Logger): ContentFiles {
  let checked: { readonly root: string | undefined; readonly problem: string | undefined } | undefined

  return {
    async check(root) {
      const problem = await problemOf(root)
      if (checked !== undefined && checked.root === root && checked.problem === problem) return
      checked = { root, problem }
      if (problem === undefined) log.info('containerd content is read from files', { root })
      else log.warn('containerd content is read through the socket', { root, reason: problem })
    },

    async find(digest, size) {
      if (checked?.root === undefined || checked.problem !== undefined) return undefined
      const path = join(checked.root, 'blobs', algorithmOf(digest), hexOf(digest))
      try {
        // Opened and not only looked at: nothing else says for sure that it can be.
        const file = await open(path, 'r')
        try {
          const found = await file.stat()
          if (found.isFile() && found.size === size) return path
          log.warn('containerd content file is not what containerd says', { path, size, found: found.size })
        } finally {
          await file.close()
        }
      } catch (error) {
        log.debug('containerd content file is not readable', { path, error })
      }
      return undefined
    },
  }
}

async function problemOf(root: string | undefined): Promise<string | undefined> {
  if (root === undefined) return 'containerd does not say where its content is'
  try {
    // Made by containerd when it starts; `blobs` comes with the first blob.
    await access(join(root, 'ingest'), constants.R_OK | constants.X_OK)
    return undefined
  } catch (error) {
    return error instanceof Error ? error.message : String(error)
  }
}
