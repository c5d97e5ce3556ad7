import { existsSync, readFileSync } from 'node:fs'

/**
 * How many file descriptors this process may have open; 0 where there is no /proc, or no limit. Read once, at the start, since
 * nothing can be read when it is reached.
 */
export const OPEN_FILES_LIMIT = openFilesLimit()

function openFilesLimit(): number {
  const path = '/proc/self/limits'
  if (!existsSync(path)) return 0
  const [, soft] = /^Max open files\s+(\d+)/m.exec(readFileSync(path, 'utf8')) ?? []
  return Number(soft ?? 0)
}
