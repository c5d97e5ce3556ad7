import { isTable, parseToml, parseTomlSyntax, TomlError, type TomlNodes, tableAt } from '../../toml/toml.ts'
import type { Dialect } from '../dialect.ts'
import { type Endpoint, HostsError, readEndpoint } from './endpoint.ts'

/** A host in a hosts.toml that containerd asks. */
export interface HostEntry extends Endpoint {
  /** The name in its header. */
  readonly name: string
  /** The line of its first header, from 1. */
  readonly line: number
}

/** What a hosts.toml means to containerd. */
export type HostsReading =
  | {
      readonly kind: 'hosts'
      /** In the order in which containerd asks them. */
      readonly hosts: readonly HostEntry[]
      /** The host that containerd asks last. Its URL is empty if the file names none, which means the registry itself. */
      readonly server: HostEntry
    }
  /** containerd discards the whole file, and goes upstream. */
  | { readonly kind: 'discarded'; readonly reason: string; readonly line: number; readonly column: number }
  /** containerd treats it like a missing file. */
  | { readonly kind: 'empty' }

/**
 * Reads a hosts.toml as containerd does, except for two things that nobody writes and only 1.x accepts: hosts without their own
 * header, as dotted keys or inline tables, and a byte order mark.
 */
export function readHosts(text: string, dialect: Dialect): HostsReading {
  if (text === '') return { kind: 'empty' }
  try {
    return read(text, dialect)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    const { reason, line, column } = error
    return { kind: 'discarded', reason, line, column }
  }
}

function read(text: string, dialect: Dialect): HostsReading {
  if (dialect.is1x) refuseFancyHeaders(text)
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
  // Errors count even in a host that containerd ignores.
  for (const [name, { line }] of tables) entryOf(name, line)
  // If a later table names a host again, 2.x also asks it again. That changes nothing.
  const asked = mentions.filter(({ name }, index) => mentions.findIndex((mention) => mention.name === name) === index)
  const server = root.get('server') ?? { value: '', line: 1 }
  if (typeof server.value !== 'string') throw new HostsError('server is not a string', server.line)
  const endpoint = readEndpoint(server.value, root, 1, dialect)
  // Without `server`, containerd may ask the registry itself for everything, whatever capabilities the root has.
  const upstream = server.value === '' ? readEndpoint('', new Map(), 1, dialect) : endpoint
  return {
    kind: 'hosts',
    hosts: asked.map(({ name, line }) => entryOf(name, line)),
    server: { name: server.value, ...upstream, line: server.line, table: root },
  }
}

/** @throws {HostsError} for a header that containerd 1.x misreads */
function refuseFancyHeaders(text: string): void {
  for (const node of tablesOf(text)) {
    for (const { type, range, loc } of node.key.keys) {
      if (type === 'TOMLBare' || !/[[\]\\]/.test(text.slice(...range))) continue
      const reason = 'a bracket or a backslash within a header, which containerd 1.x does not read'
      throw new HostsError(reason, loc.start.line, loc.start.column + 1)
    }
  }
}

/** The tables of a file with a header. */
export function tablesOf(text: string): TomlNodes.TOMLTable[] {
  return parseTomlSyntax(text).body[0].body.filter((node) => node.type === 'TOMLTable')
}

/** The headers that name hosts, in the order of the file; a host may be named several times. */
function mentionsOf(text: string): { readonly name: string; readonly line: number }[] {
  return tablesOf(text).flatMap(({ kind, resolvedKey, loc: { start } }) => {
    const [first, name] = resolvedKey
    if (first !== 'host' || name === undefined) return []
    if (kind === 'array' && resolvedKey.length <= 3) throw new HostsError('an array of hosts', start.line)
    return [{ name: String(name), line: start.line }]
  })
}
