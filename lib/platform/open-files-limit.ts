import { existsSync, readFileSync } from 'node:fs'

/**
 * How many file descriptors this process may have open; 0 without /proc or without a limit. Read once, at the start: at
 * the limit no file can be opened.
 */
export const OPEN_FILES_LIMIT = openFilesLimit()

function openFilesLimit(): number {
  const path = '/proc/self/limits'
  if (!existsSync(path)) return 0
  const [, soft] = /^Max open files\s+(\d+)/m.exec(readFileSync(path, 'utf8')) ?? []
  return Number(soft ?? 0)
}
