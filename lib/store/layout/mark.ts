import { stat } from 'node:fs/promises'
import { join } from 'node:path'
import { unlessMissing } from '../missing.ts'

/** Paths of which at least one changes when content is added or removed, or another layout takes this one's place. */
const MARKED = ['.', 'oci-layout', 'index.json', 'blobs', 'blobs/sha256', 'blobs/sha512']

/** Two changes within one tick of a file system's clock, which is 2 s on the coarsest, leave the same mark. */
const CLOCK_TICK = 2_000

/**
 * What a layout looks like from outside, as a text that differs when a blob has come or gone since, or the index has
 * changed. It takes six `stat` calls instead of four for each blob, and misses a blob that was written over in place.
 *
 * @param now milliseconds since 1970, as the file system tells time
 * @returns `undefined` while the last change is so young that another one might leave the same mark
 * @throws what the file system throws, except that something is not there
 */
export async function markOf(dir: string, now: number = Date.now()): Promise<string | undefined> {
  const parts: string[] = []
  for (const path of MARKED) {
    const found = await unlessMissing(stat(join(dir, path)))
    if (found !== undefined && found.ctimeMs > now - CLOCK_TICK) return undefined
    parts.push(found === undefined ? '' : `${found.dev}:${found.ino}:${found.size}:${found.ctimeMs}:${found.mtimeMs}`)
  }
  return parts.join()
}
