import {
  isTable,
  keyPartsOf,
  parseToml,
  parseTomlSyntax,
  TomlError,
  type TomlNodes,
  tableAt,
  withoutByteOrderMark,
} from '../../toml/toml.ts'
import type { Dialect } from '../dialect.ts'
import { type Endpoint, HostsError, readEndpoint } from './endpoint.ts'

/** A host that containerd asks, as a hosts.toml names it. */
export interface HostEntry extends Endpoint {
  /** As its header says. */
  readonly name: string
  /** Where it first stands, from 1. */
  readonly line: number
}

/** What containerd makes of a hosts.toml. */
export type HostsReading =
  | {
      readonly kind: 'hosts'
      /** In the order in which they are asked. */
      readonly hosts: readonly HostEntry[]
      /** What is asked last. Its URL is empty if the file does not give it: then it is the registry itself. */
      readonly server: HostEntry
      /** Hosts that this version does not see, because they have no `[host."..."]` header. */
      readonly ignored: readonly HostMention[]
    }
  /** The whole file counts for nothing, and containerd goes upstream. */
  | { readonly kind: 'discarded'; readonly reason: string; readonly line: number; readonly column: number }
  /** As if there were no file. */
  | { readonly kind: 'empty' }

/** Where a host is named. */
export interface HostMention {
  readonly name: string
  /** Where the header, or the key with its value, begins and ends, from 1. */
  readonly line: number
  readonly lastLine: number
  /** Whether it is named by `[host."name"]` or a header below that; otherwise by a dotted key or an inline table. */
  readonly header: boolean
}

/** Reads a hosts.toml as containerd does. */
export function readHosts(text: string, dialect: Dialect): HostsReading {
  if (text === '') return { kind: 'empty' }
  try {
    return read(dialect.byteOrderMark ? withoutByteOrderMark(text) : text, dialect)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    const { reason, line, column } = error
    return { kind: 'discarded', reason, line, column }
  }
}

function read(text: string, dialect: Dialect): HostsReading {
  if (dialect.plainHeaders) refuseFancyHeaders(text)
  const mentions = mentionsOf(text)
  const root = parseToml(text)
  const host = root.get('host')
  if (host !== undefined && !isTable(host.value)) throw new HostsError('`host` is not a table', host.line)
  if (host === undefined && dialect.needsHost) {
    throw new HostsError('no [host] table, which this version of containerd demands', 1)
  }
  const tables = tableAt(root, 'host')
  const entryOf = (name: string, line: number): HostEntry => {
    const table = tables.get(name)?.value
    if (!isTable(table)) throw new HostsError(`host ${name} is not a table`, line)
    return { name, ...readEndpoint(name, table, line, dialect), line }
  }
  // Errors count even in a host that is itself ignored.
  for (const [name, { line }] of tables) entryOf(name, line)
  const counting = dialect.headersOnly ? mentions.filter(({ header }) => header) : firstOfEach(mentions)
  // 2.x drops a repetition only if it follows at once; a table below a host names that host again.
  const asked = counting.filter(({ name }, index) => counting[index - 1]?.name !== name)
  const seen = new Set(asked.map(({ name }) => name))
  const server = root.get('server') ?? { value: '', line: 1 }
  if (typeof server.value !== 'string') throw new HostsError('server is not a string', server.line)
  const endpoint = readEndpoint(server.value, root, 1, dialect)
  // Without `server`, the registry itself may be asked for everything, whatever capabilities the root has.
  const upstream = server.value === '' ? readEndpoint('', new Map(), 1, dialect) : endpoint
  return {
    kind: 'hosts',
    hosts: asked.map(({ name, line }) => entryOf(name, line)),
    server: { name: server.value, ...upstream, line: server.line },
    ignored: firstOfEach(mentions).filter(({ name }) => !seen.has(name)),
  }
}

/** @throws {HostsError} for a header that containerd 1.x does not read as it is meant */
function refuseFancyHeaders(text: string): void {
  for (const node of tablesOf(text)) {
    for (const { type, range, loc } of node.key.keys) {
      if (type === 'TOMLBare' || !/[[\]\\]/.test(text.slice(...range))) continue
      const reason = 'a bracket or a backslash within a header, which containerd 1.x does not read'
      throw new HostsError(reason, loc.start.line, loc.start.column + 1)
    }
  }
}

/** The tables of a file that have a header. */
export function tablesOf(text: string): TomlNodes.TOMLTable[] {
  return parseTomlSyntax(text).body[0].body.filter((node) => node.type === 'TOMLTable')
}

/** Where hosts are named, in the order of the file; a host may be named several times. */
export function mentionsOf(text: string): HostMention[] {
  const mention = (name: string | number | undefined, { loc }: TomlNodes.TOMLNode, header = false) => [
    { name: String(name), line: loc.start.line, lastLine: loc.end.line, header },
  ]
  return parseTomlSyntax(text).body[0].body.flatMap((node) => {
    const [first, name] = node.type === 'TOMLKeyValue' ? keyPartsOf(node) : node.resolvedKey
    if (first !== 'host') return []
    if (node.type === 'TOMLTable') {
      if (name === undefined) return node.body.flatMap((pair) => mention(keyPartsOf(pair)[0], pair))
      if (node.kind === 'standard' || node.resolvedKey.length > 3) return mention(name, node, true)
      throw new HostsError('an array of hosts', node.loc.start.line)
    }
    if (name !== undefined) return mention(name, node)
    return node.value.type === 'TOMLInlineTable'
      ? node.value.body.flatMap((pair) => mention(keyPartsOf(pair)[0], node))
      : []
  })
}

function firstOfEach(mentions: readonly HostMention[]): HostMention[] {
  const seen = new Set<string>()
  return mentions.filter(({ name }) => !seen.has(name) && seen.add(name))
}
