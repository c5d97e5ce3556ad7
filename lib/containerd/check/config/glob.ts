import { posix } from 'node:path'

/** Reads the host's files; what throws is what `node:fs` throws. */
export interface FileReader {
  read(path: string): Promise<string>
  /** Names in a directory, in any order. */
  list(directory: string): Promise<readonly string[]>
}

/** A pattern that Go's filepath.Match refuses. containerd does not start with one among its imports. */
export class GlobError extends Error {
  override readonly name = 'GlobError'
}

const META = /[*?[\\]/

/**
 * The paths that match, in the order of Go's filepath.Glob, with which containerd imports: by name within a directory. A
 * directory that cannot be listed matches nothing, as there.
 *
 * @throws {GlobError} for a malformed pattern
 */
export async function glob(pattern: string, files: FileReader): Promise<string[]> {
  const [directory, name] = [posix.dirname(pattern), posix.basename(pattern)]
  if (!META.test(pattern)) return (await namesIn(directory, files)).includes(name) ? [pattern] : []
  const expression = compile(name)
  const directories = directory === pattern ? [] : META.test(directory) ? await glob(directory, files) : [directory]
  const found: string[] = []
  for (const parent of directories) {
    const names = await namesIn(parent, files)
    found.push(...names.filter((name) => expression.test(name)).map((name) => posix.join(parent, name)))
  }
  return found
}

async function namesIn(directory: string, files: FileReader): Promise<readonly string[]> {
  try {
    const names = await files.list(directory)
    // By code units, as Go compares bytes: the same for what file names are made of in practice, and in every locale.
    return [...names].sort((a, b) => (a < b ? -1 : a > b ? 1 : 0))
  } catch {
    return []
  }
}

/**
 * What a pattern is made of: `*`, `?`, a class such as `[^a-f\]]`, an escaped character, or any other. A hyphen or a bracket
 * that begins a range is malformed in Go, where POSIX takes it for itself.
 */
const ELEMENT = /[*?]|\[(?!\^[\]-])(\^?)((?:(?:\\.|[^\]\\-])(?:-(?:\\.|[^\]\\-]))?)+)\]|\\(.)|[^*?[\\]/gsuy
const RANGE = /\\?(.)(?:-\\?(.))?/gsu

/** Go's filepath.Match for one path element. */
function compile(pattern: string): RegExp {
  let source = ''
  let length = 0
  for (const [element, not = '', ranges, escaped] of pattern.matchAll(ELEMENT)) {
    length += element.length
    if (element === '*') source += '[^/]*'
    else if (element === '?') source += '[^/]'
    else if (ranges === undefined) source += RegExp.escape(escaped ?? element)
    else source += `[${not}${[...ranges.matchAll(RANGE)].map(rangeSource).join('')}]`
  }
  if (length < pattern.length) throw new GlobError('syntax error in pattern')
  return new RegExp(`^${source}$`, 'su')
}

function rangeSource([, low = '', high = low]: RegExpExecArray): string {
  const [from = 0, to = 0] = [low.codePointAt(0), high.codePointAt(0)]
  // The wrong way round it matches nothing in Go, where JavaScript refuses it.
  return from > to ? '' : `\\u{${from.toString(16)}}-\\u{${to.toString(16)}}`
}
