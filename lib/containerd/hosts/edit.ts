import { isDeepStrictEqual } from 'node:util'
import { escaped } from '../../observe/log.ts'
import { isTable, keyPartsOf, parseToml, parseTomlSyntax, type TomlValue, tableAt } from '../../toml/toml.ts'
import { NEWEST, OLDEST } from '../dialect.ts'
import { HostsError, isUrl } from './endpoint.ts'
import type { MirrorEntry } from './mirror-entry.ts'
import { type HostEntry, readHosts, tablesOf } from './reading.ts'

// Edits happen at places that the parser found, so that comments, order and layout stay as they are. We then read the result again:
// if anything but our entry has changed its meaning, we leave the file alone.

/**
 * Puts our block before all hosts of a text without such a block, and before the comments of the first host. Removes a table that
 * somebody wrote by hand for the same URL, since TOML allows only one.
 *
 * @param isNewFile whether the file is made for the block: then it goes with it
 * @throws {HostsError} if that is impossible
 * @throws {TomlError} if the text is not TOML
 */
export function putIn(text: string, mirror: MirrorEntry, isNewFile: boolean): string {
  const others = withoutTables(text, mirror.url)
  refuseEarlierHosts(others)
  const eol = others.includes('\r\n') ? '\r\n' : '\n'
  const lines = makeBlock(mirror, isNewFile).join(eol)
  const at = placeOfFirstHost(others)
  if (at < others.length) return `${others.slice(0, at)}${lines}${eol}${others.slice(at)}`
  return others === '' || others.endsWith('\n') ? `${others}${lines}${eol}` : `${others}${eol}${lines}`
}

/**
 * Removes our block from a text.
 *
 * @returns the text without it, and whether the file exists only for the block; nothing if there is none
 * @throws {HostsError} if more than our entry would be lost, or moved to another table
 */
export function takeOut(text: string): { readonly rest: string; readonly isNewFile: boolean } | undefined {
  const found = findBlock(text)
  if (found === undefined) return undefined
  const own = parseToml(found.lines.join('\n'))
  const ours = [...tableAt(own, 'host').keys()]
  const keys = [...own.keys()].filter((key) => key !== 'host')
  const left = namesOf(found.rest).some((name) => ours.includes(name))
  if (left || !isDeepStrictEqual(meaning(text, ours, keys), meaning(found.rest, ours))) {
    throw new HostsError(
      "lines outside of swarmirror's block belong to its table: move them elsewhere first",
      found.line,
    )
  }
  return { rest: found.rest, isNewFile: found.isNewFile }
}

/**
 * Makes sure that an edit changed nothing but our entry, and that every containerd that read the text before it reads it now
 * and asks our mirror first. A new text must be read by all of them, which leaves out IPv6 addresses: 1.x does not read them.
 *
 * @throws {HostsError} if not
 */
export function verifyEdit(before: string, after: string, mirror: MirrorEntry): void {
  const ours = [...namesOf(before), ...namesOf(after)].filter((name) => isUrl(name, mirror.url))
  if (before !== '' && !isDeepStrictEqual(meaning(before, ours), meaning(after, ours))) {
    throw new HostsError('the file cannot be edited without changing what it says of other hosts', 1)
  }
  for (const reader of [OLDEST, NEWEST]) {
    const was = readHosts(before, reader)
    const is = readHosts(after, reader)
    // What an old containerd cannot read anyway stays as unreadable to it.
    if (was.kind === 'discarded' && is.kind === 'discarded' && reader === OLDEST) continue
    if (is.kind !== 'hosts') {
      const reason = `${reader === OLDEST ? 'containerd 1.x' : 'containerd'} would not read the file with ${mirror.url} in it`
      throw new HostsError(reason, 1)
    }
    const others = was.kind === 'hosts' ? was.hosts.filter(({ name }) => !isUrl(name, mirror.url)) : []
    const asked = ({ name, capabilities }: Pick<HostEntry, 'name' | 'capabilities'>) => [name, capabilities]
    const expected = [{ name: mirror.url, capabilities: mirror.capabilities }, ...others]
    if (!isDeepStrictEqual(expected.map(asked), is.hosts.map(asked))) {
      throw new HostsError('the file cannot be edited so that the mirror comes first', is.hosts[0]?.line ?? 1)
    }
  }
}

/** Removes the tables for a URL: the lines of their headers and all lines below that belong to them. */
function withoutTables(text: string, url: string): string {
  const tables = tablesOf(text).filter(({ resolvedKey: [first, name] }) => first === 'host' && isUrl(String(name), url))
  const rest = tables.reduceRight((rest, { range: [start, end] }) => {
    const lineEnd = rest.indexOf('\n', end)
    return rest.slice(0, lineStart(rest, start)) + (lineEnd < 0 ? '' : rest.slice(lineEnd + 1))
  }, text)
  for (const [name, { line }] of tableAt(parseToml(rest), 'host')) {
    if (!isUrl(name, url)) continue
    throw new HostsError(
      `${name} is there, but not as a table with a [host."..."] header: write it so, or take it out`,
      line,
    )
  }
  return rest
}

function namesOf(text: string): string[] {
  return [...tableAt(parseToml(text), 'host').keys()]
}

/** A host among the keys of the root comes before every header. containerd 1.x would ask it first, 2.x never. */
function refuseEarlierHosts(text: string): void {
  for (const node of parseTomlSyntax(text).body[0].body) {
    if (node.type !== 'TOMLKeyValue' || keyPartsOf(node)[0] !== 'host') continue
    const { line, column } = node.loc.start
    throw new HostsError(
      'hosts as dotted keys or as an inline table, which containerd 1.x asks before the mirror and 2.x ignores: write them as [host."..."] tables',
      line,
      column + 1,
    )
  }
}

/** Where the first host begins, including the comments directly above it; the text's end if there is none. */
function placeOfFirstHost(text: string): number {
  const first = tablesOf(text).find(({ resolvedKey }) => resolvedKey[0] === 'host')
  if (first === undefined) return text.length
  const comments = new Set(parseTomlSyntax(text).comments.map(({ range }) => range[0]))
  let at = lineStart(text, first.range[0])
  while (at > 0) {
    const previous = lineStart(text, at - 1)
    const indent = /^[ \t]*/.exec(text.slice(previous, at))?.[0].length ?? 0
    if (!comments.has(previous + indent)) break
    at = previous
  }
  return at
}

function lineStart(text: string, at: number): number {
  return at === 0 ? 0 : text.lastIndexOf('\n', at - 1) + 1
}

/** The meaning of a text without some hosts and some keys of the root. Equal meanings are deeply equal. */
function meaning(text: string, hosts: readonly string[], rootKeys: readonly string[] = []): unknown {
  const root = new Map(parseToml(text))
  for (const key of rootKeys) root.delete(key)
  const host = root.get('host') ?? { value: new Map(), line: 0, file: '' }
  if (isTable(host.value)) {
    root.set('host', { ...host, value: new Map([...host.value].filter(([name]) => !hosts.includes(name))) })
  }
  return withoutLines(root)
}

function withoutLines(value: TomlValue): unknown {
  if (isTable(value)) return new Map([...value].map(([key, entry]) => [key, withoutLines(entry.value)]))
  return Array.isArray(value) ? value.map((entry) => withoutLines(entry.value)) : value
}

const BEGIN = '# >>> swarmirror hosts'
const END = '# <<< swarmirror hosts'
const NEW_FILE = `${BEGIN} (new file)`

/**
 * Our lines in a hosts.toml, between two comments.
 *
 * @param isNewFile whether the file is made for them: then it goes with them
 */
function makeBlock(mirror: MirrorEntry, isNewFile: boolean): string[] {
  return [
    isNewFile ? NEW_FILE : BEGIN,
    '# Written by `swarmirror hosts`; `swarmirror hosts --remove` takes out all between these comments.',
    `[host.${quote(mirror.url)}]`,
    `  capabilities = [${mirror.capabilities.map(quote).join(', ')}]`,
    END,
  ]
}

/** A TOML basic string: JSON's, but for a few characters that no URL here has. */
function quote(text: string): string {
  return escaped(JSON.stringify(text), /[\u007f-\u009f]/g)
}

/**
 * Finds our block. A text without the block's comments need not be TOML.
 *
 * @returns whether the file exists only for the block, its lines from the first comment to the last, the text without it, and the
 *   line of its first comment; nothing if there is no block
 * @throws {HostsError} if only a part of it is there, or there are two
 * @throws {TomlError} if the text is not TOML
 */
function findBlock(text: string) {
  if (!text.includes(BEGIN) && !text.includes(END)) return undefined
  const marks = parseTomlSyntax(text)
    .comments.map(({ range: [start, end], loc }) => ({
      start,
      end,
      text: text.slice(start, end).trimEnd(),
      line: loc.start.line,
      ownLine: start === 0 || text[start - 1] === '\n',
    }))
    .filter((comment) => comment.text.startsWith(BEGIN) || comment.text.startsWith(END))
  const [begin, end, third] = marks
  if (begin === undefined) return undefined
  const isNewFile = begin.text === NEW_FILE
  const isBegin = isNewFile || begin.text === BEGIN
  if (!isBegin || end?.text !== END || third !== undefined || !begin.ownLine || !end.ownLine) {
    const { line } = begin.text.startsWith(BEGIN) ? (third ?? begin) : begin
    throw new HostsError(
      'the comments that enclose the lines of swarmirror must both be there, once, as it wrote them',
      line,
    )
  }
  const lineEnd = text.indexOf('\n', end.start)
  const before = text.slice(0, begin.start)
  return {
    isNewFile,
    lines: text.slice(begin.start, end.end).split(/\r?\n/),
    // A block at the text's end without a line feed brought the line feed before it.
    rest: lineEnd < 0 ? before.replace(/\r?\n$/, '') : before + text.slice(lineEnd + 1),
    line: begin.line,
  }
}
