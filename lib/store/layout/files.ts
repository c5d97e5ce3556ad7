import { accessSync, constants, realpathSync, statSync } from 'node:fs'
import { open, stat } from 'node:fs/promises'
import { join, sep } from 'node:path'
import { algorithmOf, type Digest, hexOf } from '../../oci/digest.ts'
import { unlessMissing } from '../missing.ts'

/**
 * Finds the file of a digest in `blobs/`: a regular file that can be read, by its real path, with its size in bytes.
 * `outside` is what symbolic links lead to that leave the directory: a layout must not be a way to read other files of the
 * machine.
 *
 * @param root the layout's directory, with symbolic links resolved
 * @throws what the file system throws, except that the file is not there
 */
export async function locateBlob(root: string, digest: Digest) {
  return await unlessMissing(locate(root, join(root, 'blobs', algorithmOf(digest), hexOf(digest))))
}

/** At once, since each request does it: hops through the pool of threads would take five to twenty times as long. */
async function locate(root: string, link: string) {
  const path = realpathSync.native(link)
  if (!path.startsWith(root.endsWith(sep) ? root : root + sep)) return 'outside'
  const info = statSync(path)
  if (!info.isFile()) return undefined
  accessSync(path, constants.R_OK)
  return { path, size: info.size }
}

/**
 * The bytes of a file; `undefined` if it is not a regular file (which a pipe's open would wait for) or larger than `limit`.
 *
 * @throws what the file system throws
 */
export async function readFileUpTo(path: string, limit: number): Promise<Uint8Array | undefined> {
  if (!(await stat(path)).isFile()) return undefined
  const file = await open(path, 'r')
  try {
    const { size } = await file.stat()
    return size > limit ? undefined : await file.readFile()
  } finally {
    await file.close()
  }
}
