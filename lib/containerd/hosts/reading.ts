import {
  parseToml,
  parseTomlSyntax,
  TomlError,
  type TomlNodes,
  type TomlTable,
  type TomlValue,
  tableOf,
  withoutByteOrderMark,
} from '../../toml/toml.ts'
import { type Dialect, dialectOf } from '../dialect.ts'
import { type Capability, type EndpointOptions, readEndpoint } from './endpoint.ts'
import { HostsError } from './hosts-error.ts'

/** A host that containerd asks, as a hosts.toml names it. */
export interface HostEntry {
  /** As it is written in the header. */
  readonly name: string
  /** As containerd understands it, with scheme and path; empty if it is the registry itself. */
  readonly url: string
  readonly capabilities: readonly Capability[]
  /** Where it first stands, from 1. */
  readonly line: number
}

/** What containerd makes of a hosts.toml. */
export type HostsReading =
  | {
      readonly kind: 'hosts'
      /** In the order in which they are asked. */
      readonly hosts: readonly HostEntry[]
      /** What is asked last; its URL is empty if the file does not say: then it is the registry itself. */
      readonly server: HostEntry
      /** Hosts that this version does not see, because they are not written as `[host."..."]` headers. */
      readonly ignored: readonly HostMention[]
    }
  /** The whole file counts for nothing, and containerd goes upstream. `column` is there for what is not TOML. */
  | { readonly kind: 'discarded'; readonly reason: string; readonly line: number; readonly column?: number | undefined }
  /** Empty: as if there were no file. */
  | { readonly kind: 'empty' }

/** Where a host is named. */
export interface HostMention {
  readonly name: string
  readonly line: number
  /** Where the header, or the key with its value, ends. */
  readonly lastLine: number
  /** Whether as `[host."name"]`, or below it; otherwise as a dotted key or an inline table. */
  readonly header: boolean
}

/**
 * Reads a hosts.toml as containerd of that version does.
 *
 * @param version as containerd tells it; without one, only what all versions read the same way counts
 */
export function readHosts(text: string, version: string | undefined): HostsReading {
  return readHostsAs(text, dialectOf(version))
}

/** Reads a hosts.toml in a dialect. */
export function readHostsAs(text: string, dialect: Dialect): HostsReading {
  if (text === '') return { kind: 'empty' }
  try {
    return read(dialect.byteOrderMark ? withoutByteOrderMark(text) : text, dialect)
  } catch (error) {
    if (error instanceof TomlError) {
      return { kind: 'discarded', reason: error.reason, line: error.line, column: error.column }
    }
    if (!(error instanceof HostsError)) throw error
    return { kind: 'discarded', reason: error.message, line: error.line, column: error.column }
  }
}

function read(text: string, dialect: Dialect): HostsReading {
  if (dialect.plainHeaders) refuseFancyHeaders(text)
  const mentions = mentionsOf(text)
  const root = parseToml(text)
  const host = root.get('host')
  const table = tableOf(host?.value)
  if (host !== undefined && table === undefined) throw new HostsError('`host` is not a table', host.line)
  if (host === undefined && dialect.needsHost) {
    throw new HostsError('no [host] table, which this version of containerd demands', 1)
  }
  for (const [name, entry] of table ?? []) {
    if (tableOf(entry.value) === undefined) throw new HostsError(`host ${name} is not a table`, entry.line)
    // Read for its errors: they count even where the host itself is ignored.
    entryOf(name, table, entry.line, dialect)
  }
  const counting = dialect.headersOnly ? mentions.filter(({ header }) => header) : firstOfEach(mentions)
  // 2.x leaves out a repetition only if it follows at once; tables below a host come again as that host.
  const asked = counting.filter(({ name }, index) => counting[index - 1]?.name !== name)
  const seen = new Set(asked.map(({ name }) => name))
  const server = textOf(root, 'server')
  const { url, capabilities } = readEndpoint(server, root, 1, dialect)
  return {
    kind: 'hosts',
    hosts: asked.map(({ name, line }) => entryOf(name, table, line, dialect)),
    server: {
      name: server,
      url,
      // The registry itself, where the file does not say where it is, may be asked for everything whatever the file says.
      capabilities: server === '' ? readEndpoint('', new Map(), 1, dialect).capabilities : capabilities,
      line: root.get('server')?.line ?? 1,
    },
    ignored: firstOfEach(mentions).filter(({ name }) => !seen.has(name)),
  }
}

/** @throws {HostsError} for a header that containerd 1.x does not read as it is meant */
function refuseFancyHeaders(text: string): void {
  for (const node of parseTomlSyntax(text).body[0].body) {
    if (node.type !== 'TOMLTable') continue
    for (const { type, range, loc } of node.key.keys) {
      if (type === 'TOMLBare' || !/[[\]\\]/.test(text.slice(...range))) continue
      const reason = 'a bracket or a backslash within a header, which containerd 1.x does not read'
      throw new HostsError(reason, loc.start.line, loc.start.column + 1)
    }
  }
}

function entryOf(name: string, hosts: TomlTable | undefined, line: number, options: EndpointOptions): HostEntry {
  const table = tableOf(hosts?.get(name)?.value) ?? new Map()
  return { name, ...readEndpoint(name, table, line, options), line }
}

function textOf(table: TomlTable, key: string): string {
  const entry = table.get(key)
  const value: TomlValue = entry?.value ?? ''
  if (typeof value !== 'string') throw new HostsError(`${key} is not a string`, entry?.line ?? 1)
  return value
}

/** Where hosts are named, in the order of the file; a host may be named several times. */
export function mentionsOf(text: string): HostMention[] {
  const mentions: HostMention[] = []
  for (const node of parseTomlSyntax(text).body[0].body) {
    const { line } = node.loc.start
    const lastLine = node.loc.end.line
    if (node.type === 'TOMLKeyValue') {
      const [first, second] = namesOf(node)
      if (first !== 'host') continue
      const names = second === undefined ? inlineNames(node.value) : [second]
      mentions.push(...names.map((name) => ({ name, line, lastLine, header: false })))
    } else if (node.resolvedKey[0] === 'host' && node.resolvedKey.length > 1) {
      if (node.kind === 'array' && node.resolvedKey.length < 4) throw new HostsError('an array of hosts', line)
      mentions.push({ name: String(node.resolvedKey[1]), line, lastLine, header: true })
    } else if (node.resolvedKey[0] === 'host') {
      for (const pair of node.body) {
        const { start, end } = pair.loc
        mentions.push({ name: namesOf(pair)[0] ?? '', line: start.line, lastLine: end.line, header: false })
      }
    }
  }
  return mentions
}

function inlineNames(value: TomlNodes.TOMLContentNode): string[] {
  return value.type === 'TOMLInlineTable' ? value.body.map((pair) => namesOf(pair)[0] ?? '') : []
}

/** The parts of a key, without quotes. */
export function namesOf(pair: TomlNodes.TOMLKeyValue): string[] {
  return pair.key.keys.map((key) => (key.type === 'TOMLBare' ? key.name : key.value))
}

function firstOfEach(mentions: readonly HostMention[]): HostMention[] {
  const seen = new Set<string>()
  return mentions.filter(({ name }) => !seen.has(name) && seen.add(name))
}
