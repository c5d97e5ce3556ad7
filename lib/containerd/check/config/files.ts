import { posix } from 'node:path'

/** Reads the host's files; what throws is what `node:fs` throws. */
export interface FileReader {
  read(path: string): Promise<string>
  /** Names in a directory, in any order. */
  list(directory: string): Promise<readonly string[]>
}

/** A pattern that Go's filepath.Match refuses; containerd does not start with one among its imports. */
export class GlobError extends Error {
  override readonly name = 'GlobError'
}

const META = /[*?[\\]/

/**
 * The paths that match, in the order of Go's filepath.Glob, which containerd imports in: by name within a directory.
 * What cannot be listed matches nothing, as there.
 *
 * @throws {GlobError} for a malformed pattern
 */
export async function glob(pattern: string, files: FileReader): Promise<string[]> {
  if (!META.test(pattern)) return (await exists(pattern, files)) ? [pattern] : []
  const directory = posix.dirname(pattern)
  const expression = compile(posix.basename(pattern))
  const directories = directory === pattern ? [] : META.test(directory) ? await glob(directory, files) : [directory]
  const found: string[] = []
  for (const parent of directories) {
    const names = await namesIn(parent, files)
    found.push(...names.filter((name) => expression.test(name)).map((name) => posix.join(parent, name)))
  }
  return found
}

async function exists(path: string, files: FileReader): Promise<boolean> {
  return (await namesIn(posix.dirname(path), files)).includes(posix.basename(path))
}

async function namesIn(directory: string, files: FileReader): Promise<readonly string[]> {
  try {
    const names = await files.list(directory)
    // Go compares bytes; so does this for what file names are made of in practice, and it does not depend on a locale.
    return [...names].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
  } catch {
    return []
  }
}

/** Go's filepath.Match for one path element. */
function compile(pattern: string): RegExp {
  let source = ''
  for (let at = 0; at < pattern.length; at++) {
    const character = pattern.charAt(at)
    if (character === '*') source += '[^/]*'
    else if (character === '?') source += '[^/]'
    else if (character === '[') {
      const end = classEnd(pattern, at)
      source += classSource(pattern.slice(at + 1, end))
      at = end
    } else if (character === '\\') {
      at++
      if (at === pattern.length) throw new GlobError('syntax error in pattern')
      source += RegExp.escape(pattern.charAt(at))
    } else source += RegExp.escape(character)
  }
  return new RegExp(`^${source}$`, 'su')
}

function classEnd(pattern: string, start: number): number {
  for (let at = start + 1; at < pattern.length; at++) {
    if (pattern.charAt(at) === '\\') at++
    // A bracket that closes nothing yet is malformed in Go, where POSIX takes it for itself.
    else if (pattern.charAt(at) === ']') {
      if (at === start + 1 || (at === start + 2 && pattern.charAt(start + 1) === '^')) break
      return at
    }
  }
  throw new GlobError('syntax error in pattern')
}

function classSource(body: string): string {
  const negated = body.startsWith('^')
  const ranges: string[] = []
  const characters = [...(negated ? body.slice(1) : body)]
  const next = () => {
    const character = characters.shift()
    const taken = character === '\\' ? characters.shift() : character
    if (taken === undefined || character === '-') throw new GlobError('syntax error in pattern')
    return taken.codePointAt(0) ?? 0
  }
  const unit = (codePoint: number) => `\\u{${codePoint.toString(16)}}`
  while (characters.length > 0) {
    const low = next()
    if (characters[0] !== '-') {
      ranges.push(unit(low))
      continue
    }
    characters.shift()
    const high = next()
    // The wrong way round it matches nothing in Go, where JavaScript refuses it.
    if (low <= high) ranges.push(`${unit(low)}-${unit(high)}`)
  }
  return `[${negated ? '^' : ''}${ranges.join('')}]`
}
