import { readFile, rename, writeFile } from 'node:fs/promises'
import * as v from 'valibot'
import type { Logger } from './log.ts'

/**
 * Reads a file of JSON that this program wrote. One that is damaged is logged and put aside, to be made anew.
 *
 * @returns `undefined` if there is none, or none that is right
 * @throws the system's error
 */
export async function readDocument<T>(
  path: string,
  schema: v.GenericSchema<unknown, T>,
  log: Logger,
): Promise<T | undefined> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw error
  }
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
 * Writes a file of JSON in one step: whoever reads it gets all of the old one, or all of the new one.
 *
 * @throws the system's error
 */
export async function writeDocument(path: string, document: unknown): Promise<void> {
  const temporary = `${path}.new`
  await writeFile(temporary, `${JSON.stringify(document)}\n`, { mode: 0o600, flush: true })
  await rename(temporary, path)
}
