import { parseToml, parseTomlSyntax, type TomlNodes, type TomlTable, type TomlValue } from '../../toml/toml.ts'
import { type Dialect, NEWEST, OLDEST } from '../dialect.ts'
import { type Block, findBlock, type MirrorEntry } from './block.ts'
import { endpointUrl } from './endpoint.ts'
import { HostsError } from './hosts-error.ts'
import { type HostEntry, mentionsOf, readHostsAs } from './reading.ts'

// All edits are made at places in the text that the parser gave, so that comments, order and layout stay as they are.
// Each one is then read again: if anything but our entry reads differently, the text is left alone.

/**
 * Puts our block before all hosts of a text that has none of ours, after the comments of what comes before it. A table
 * for the same URL that somebody wrote by hand is taken out, since TOML allows only one.
 *
 * @throws {HostsError} where that cannot be done
 * @throws {TomlError} if the text is not TOML
 */
export function putIn(text: string, block: Block, mirror: MirrorEntry): string {
  const others = withoutTables(text, mirror.url)
  refuseEarlierHosts(others)
  const eol = others.includes('\r\n') ? '\r\n' : '\n'
  const lines = block.lines.join(eol)
  const at = placeOfFirstHost(others)
  if (at < others.length) return `${others.slice(0, at)}${lines}${eol}${others.slice(at)}`
  return others === '' || others.endsWith('\n') ? `${others}${lines}${eol}` : `${others}${eol}${lines}`
}

/**
 * Takes our block out of a text.
 *
 * @throws {HostsError} if more than our entry would be lost, or moved to another table
 */
export function takeOut(text: string): string | undefined {
  const found = findBlock(text)
  if (found === undefined) return undefined
  const own = parseToml(found.lines.join('\n'))
  const ours = [...(tableAt(own, 'host')?.keys() ?? [])]
  const keys = [...own.keys()].filter((key) => key !== 'host')
  const left = mentionsOf(found.rest).some(({ name }) => ours.includes(name))
  if (left || !same(meaning(text, ours, keys), meaning(found.rest, ours, keys))) {
    throw new HostsError(
      'lines outside of what swarmirror wrote belong to its table: move them away first',
      lineOf(text, found.start),
    )
  }
  return found.rest
}

/**
 * Makes sure that an edit changed nothing but our entry, and that containerd of every generation that understood the
 * text before understands it now and asks our mirror first.
 *
 * @throws {HostsError} if not
 */
export function verifyEdit(before: string, after: string, mirror: MirrorEntry, dialect: Dialect): void {
  const ours = mentionsOf(after).filter(({ name }) => isUrl(name, mirror.url))
  const names = [
    ...ours.map(({ name }) => name),
    ...mentionsOf(before)
      .map(({ name }) => name)
      .filter((name) => isUrl(name, mirror.url)),
  ]
  if (before !== '' && !same(meaning(before, names, []), meaning(after, names, []))) {
    throw new HostsError('the file cannot be edited without changing what it says of other hosts', 1)
  }
  // An IPv6 address is for those alone that read one.
  const able = [OLDEST, NEWEST].filter(({ plainHeaders }) => !plainHeaders || !mirror.url.includes('['))
  for (const reader of [dialect, ...able]) {
    const was = readHostsAs(before, reader)
    const is = readHostsAs(after, reader)
    // What one generation cannot read anyway, and is not the one that runs here, stays as unreadable to it.
    if (was.kind === 'discarded' && is.kind === 'discarded' && reader !== dialect) continue
    if (is.kind !== 'hosts') throw new HostsError('the file would not be understood with the mirror in it', 1)
    const others = was.kind === 'hosts' ? was.hosts.filter(({ name }) => !isUrl(name, mirror.url)) : []
    const expected = [{ name: mirror.url, capabilities: mirror.capabilities }, ...others]
    if (!same(expected.map(asked), is.hosts.map(asked))) {
      throw new HostsError('the file cannot be edited such that the mirror comes first', is.hosts[0]?.line ?? 1)
    }
  }
}

/** Whether a host of that name is asked at the URL. */
export function isUrl(name: string, url: string): boolean {
  try {
    return endpointUrl(name, false, 1) === endpointUrl(url, false, 1)
  } catch (error) {
    if (error instanceof HostsError) return false
    throw error
  }
}

/** Whether containerd asks a host of a file at the URL: its name alone does not say, as `override_path` leaves out `/v2`. */
export function asksAt(host: Pick<HostEntry, 'url'>, url: string): boolean {
  return host.url === endpointUrl(url, false, 1)
}

function asked({ name, capabilities }: Pick<HostEntry, 'name' | 'capabilities'>): string {
  return JSON.stringify([name, capabilities])
}

/** Takes out the tables for a URL, with their header's line and all lines below it that belong to them. */
function withoutTables(text: string, url: string): string {
  const written = mentionsOf(text).filter(({ name }) => isUrl(name, url))
  const other = written.find(({ header }) => !header)
  if (other !== undefined) {
    throw new HostsError(
      `${other.name} is there, but not as a table with a [host."..."] header: write it so, or take it out`,
      other.line,
    )
  }
  const tables = tablesOf(text).filter(
    ({ resolvedKey: [first, second] }) => first === 'host' && isUrl(String(second), url),
  )
  return tables.reduceRight((rest, { range: [start, end] }) => {
    const lineEnd = rest.indexOf('\n', end)
    return rest.slice(0, lineStart(rest, start)) + (lineEnd < 0 ? '' : rest.slice(lineEnd + 1))
  }, text)
}

/** A host among the root's own keys comes before every header. containerd 1.x would ask it first, 2.x never. */
function refuseEarlierHosts(text: string): void {
  for (const node of parseTomlSyntax(text).body[0].body) {
    if (node.type !== 'TOMLKeyValue' || node.key.keys[0] === undefined) continue
    const [first] = node.key.keys
    if ((first.type === 'TOMLBare' ? first.name : first.value) !== 'host') continue
    throw new HostsError(
      'hosts as dotted keys or as an inline table, which containerd 1.x asks before the mirror and 2.x ignores: write them as [host."..."] tables',
      node.loc.start.line,
      node.loc.start.column + 1,
    )
  }
}

function tablesOf(text: string): TomlNodes.TOMLTable[] {
  return parseTomlSyntax(text).body[0].body.filter((node) => node.type === 'TOMLTable')
}

/** Where the first host begins, with the comments directly above it; the text's end if there is none. */
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

function lineOf(text: string, at: number): number {
  return text.slice(0, at).split('\n').length
}

/** What a text says, but for some hosts and some keys of the root: a form in which equal meanings are equal texts. */
function meaning(text: string, hosts: readonly string[], rootKeys: readonly string[]): string {
  const root = new Map(parseToml(text))
  for (const key of rootKeys) root.delete(key)
  const host = root.get('host')
  if (host?.value instanceof Map) {
    const rest = new Map([...host.value].filter(([name]) => !hosts.includes(name)))
    if (rest.size === 0) root.delete('host')
    else root.set('host', { ...host, value: rest })
  }
  return JSON.stringify(plain(root))
}

function plain(value: TomlValue): unknown {
  if (value instanceof Map) return [...value].map(([key, entry]) => [key, plain(entry.value)] as const).sort(byKey)
  if (Array.isArray(value)) return value.map((entry) => plain(entry.value))
  if (value instanceof Date) return `date ${value.getTime()}`
  return typeof value === 'number' ? `number ${value}` : value
}

function byKey(a: readonly [string, unknown], b: readonly [string, unknown]): number {
  return a[0] < b[0] ? -1 : 1
}

function tableAt(table: TomlTable, key: string): TomlTable | undefined {
  const value = table.get(key)?.value
  return value instanceof Map ? value : undefined
}

function same(a: unknown, b: unknown): boolean {
  return JSON.stringify(a) === JSON.stringify(b)
}
