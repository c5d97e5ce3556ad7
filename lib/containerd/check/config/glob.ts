import { posix } from 'node:path'
import type { HostsReader } from '../../hosts/files.ts'

/** How containerd's configuration is looked at. What is not there is `undefined`; what the file system refuses is thrown. */
export type ConfigReader = Pick<HostsReader, 'read' | 'list'>

const META = /[*?[\\]/

/**
 * The paths that match, in the order of Go's filepath.Glob, with which containerd imports: by name within a directory. A
 * directory that cannot be listed matches nothing, as there.
 *
 * @returns `undefined` for a malformed pattern: containerd does not start with one among its imports
 */
export async function glob(pattern: string, files: ConfigReader): Promise<string[] | undefined> {
  const [directory, name] = [posix.dirname(pattern), posix.basename(pattern)]
  if (!META.test(pattern)) return (await namesIn(directory, files)).includes(name) ? [pattern] : []
  const expression = compile(name)
  const directories = META.test(directory) ? await glob(directory, files) : [directory]
  if (expression === undefined || directories === undefined) return undefined
  const found: string[] = []
  for (const parent of directories) {
    const names = await namesIn(parent, files)
    found.push(...names.filter((name) => expression.test(name)).map((name) => posix.join(parent, name)))
  }
  return found
}

async function namesIn(directory: string, files: ConfigReader): Promise<readonly string[]> {
  const listed = await files.list(directory).catch(() => undefined)
  // By code units, as Go compares bytes: the same for what file names are made of in practice, and in every locale.
  return (listed ?? []).map(({ name }) => name).sort()
}

/**
 * What a pattern is made of: `*`, `?`, a class such as `[^a-f\]]`, an escaped character, or any other. A hyphen or a bracket
 * that begins a range is malformed in Go, where POSIX takes it for itself.
 */
const ELEMENT = /[*?]|\[(?!\^[\]-])(\^?)((?:(?:\\.|[^\]\\-])(?:-(?:\\.|[^\]\\-]))?)+)\]|\\(.)|[^*?[\\]/gsuy
const RANGE = /\\?(.)(?:-\\?(.))?/gsu

/** Go's filepath.Match for one path element; `undefined` for a malformed one. */
function compile(pattern: string): RegExp | undefined {
  let source = ''
  let length = 0
  for (const [element, not = '', ranges, escaped] of pattern.matchAll(ELEMENT)) {
    length += element.length
    if (element === '*') source += '[^/]*'
    else if (element === '?') source += '[^/]'
    else if (ranges === undefined) source += RegExp.escape(escaped ?? element)
    else source += `[${not}${[...ranges.matchAll(RANGE)].map(rangeSource).join('')}]`
  }
  return length < pattern.length ? undefined : new RegExp(`^${source}$`, 'su')
}

function rangeSource([, low = '', high = low]: RegExpExecArray): string {
  const [from = 0, to = 0] = [low.codePointAt(0), high.codePointAt(0)]
  // The wrong way round it matches nothing in Go, where JavaScript refuses it.
  return from > to ? '' : `\\u{${from.toString(16)}}-\\u{${to.toString(16)}}`
}
