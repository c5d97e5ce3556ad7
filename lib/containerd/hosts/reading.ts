import { isTable, parseToml, parseTomlSyntax, TomlError, type TomlNodes, tableAt } from '../../toml/toml.ts'
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
    }
  /** The whole file counts for nothing, and containerd goes upstream. */
  | { readonly kind: 'discarded'; readonly reason: string; readonly line: number; readonly column: number }
  /** As if there were no file. */
  | { readonly kind: 'empty' }

/**
 * Reads a hosts.toml as containerd does, but for two things that nobody writes and only 1.x takes: hosts without a header of their
 * own, as dotted keys or inline tables, and a byte order mark.
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
  // 2.x asks a host again that a later table names again, as one for its headers; that changes nothing.
  const asked = mentions.filter(({ name }, index) => mentions.findIndex((mention) => mention.name === name) === index)
  const server = root.get('server') ?? { value: '', line: 1 }
  if (typeof server.value !== 'string') throw new HostsError('server is not a string', server.line)
  const endpoint = readEndpoint(server.value, root, 1, dialect)
  // Without `server`, the registry itself may be asked for everything, whatever capabilities the root has.
  const upstream = server.value === '' ? readEndpoint('', new Map(), 1, dialect) : endpoint
  return {
    kind: 'hosts',
    hosts: asked.map(({ name, line }) => entryOf(name, line)),
    server: { name: server.value, ...upstream, line: server.line },
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

/** The headers that name hosts, in the order of the file; a host may be named several times. */
function mentionsOf(text: string): { readonly name: string; readonly line: number }[] {
  return tablesOf(text).flatMap(({ kind, resolvedKey, loc: { start } }) => {
    const [first, name] = resolvedKey
    if (first !== 'host' || name === undefined) return []
    if (kind === 'array' && resolvedKey.length <= 3) throw new HostsError('an array of hosts', start.line)
    return [{ name: String(name), line: start.line }]
  })
}
