import { readFile, rename, writeFile } from 'node:fs/promises'
import * as v from 'valibot'
import type { Logger } from './log.ts'

/**
 * Reads a JSON file that this program wrote. If the file is damaged, it logs that and renames the file, so that a new one can
 * be written.
 *
 * @returns `undefined` if the file is missing or damaged
 * @throws the system's error
 */
export async function readDocument<T>(
  path: string,
  schema: v.GenericSchema<unknown, T>,
  log: Logger,
): Promise<T | undefined> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code !== 'ENOENT') throw error
  })
  if (text === undefined) return undefined
  try {
    return v.parse(schema, JSON.parse(text))
  } catch (error) {
    const aside = `${path}.damaged`
    await rename(path, aside)
    log.error('damaged file replaced', { path, aside, error })
    return undefined
  }
}

/**
 * Writes a JSON file in one step: a reader gets either the whole old file or the whole new one.
 *
 * @throws the system's error
 */
export async function writeDocument(path: string, document: unknown): Promise<void> {
  const temporary = `${path}.new`
  await writeFile(temporary, `${JSON.stringify(document)}\n`, { mode: 0o600, flush: true })
  await rename(temporary, path)
}
