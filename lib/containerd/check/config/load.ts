import { posix } from 'node:path'
import {
  parseToml,
  type TomlEntry,
  TomlError,
  type TomlTable,
  type TomlValue,
  withoutByteOrderMark,
} from '../../../toml/toml.ts'
import type { Dialect } from '../../dialect.ts'
import { type ConfigReader, GlobError, glob } from './glob.ts'

/** containerd's files as this process sees them. */
export interface ConfigFiles extends ConfigReader {
  /** Path of the main file. */
  readonly path: string
}

/** A value and where it stands. */
export interface Sourced {
  readonly value: ConfigValue
  readonly file: string
  readonly line: number
}
export type ConfigValue = string | number | boolean | Date | readonly Sourced[] | ConfigTable
export type ConfigTable = ReadonlyMap<string, Sourced>

/** A file that keeps containerd from starting with this configuration, or that could not be looked at. */
export interface ConfigProblem {
  /** `missing`: not there; `unreadable`: there, but refused to us; `broken`: not TOML; `invalid`: refused by containerd. */
  readonly kind: 'missing' | 'unreadable' | 'broken' | 'invalid'
  readonly file: string
  /** From 1, where it is known. */
  readonly line?: number | undefined
  readonly column?: number | undefined
  readonly reason: string
  /** The file that imports it; missing for the main one. */
  readonly importedBy?: string | undefined
}

/** Whether it is the main file that is not there: then it may be elsewhere, or containerd runs without one. */
export function isMainMissing({ kind, importedBy }: ConfigProblem): boolean {
  return kind === 'missing' && importedBy === undefined
}

/** A configuration file as it was read. */
export interface ConfigFile {
  readonly path: string
  readonly text: string
  /** The `version` that it names, 0 if none. */
  readonly version: number
  readonly table: ConfigTable
}

/** Everything that containerd would read, in its order, and why it would not. */
export interface LoadedConfig {
  readonly files: readonly ConfigFile[]
  readonly problems: readonly ConfigProblem[]
}

/** Most files that are followed: a guard against a directory that is not meant for us, far above what anyone has. */
const FILE_LIMIT = 1_000

/**
 * Reads the main file and what it imports, breadth first as containerd does: each file once, and a file's imports after all
 * that were waiting before. Only a file's own `imports` count: those of containerd's default configuration do not, beside a
 * file that names none (LoadConfig in containerd 2.1.9 to 2.3). A problem does not end the reading, so that all are told at once.
 */
export async function loadConfig(reader: ConfigFiles, dialect: Dialect): Promise<LoadedConfig> {
  const { path } = reader
  const files: ConfigFile[] = []
  const problems: ConfigProblem[] = []
  const seen = new Set<string>()
  const pending: { path: string; importedBy?: string }[] = [{ path }]
  for (let next = pending.shift(); next !== undefined; next = pending.shift()) {
    if (seen.has(next.path)) continue
    seen.add(next.path)
    if (seen.size > FILE_LIMIT) {
      problems.push({ kind: 'invalid', file: path, reason: `imports more than ${FILE_LIMIT} files` })
      break
    }
    const file = await readConfigFile(next, reader, dialect)
    if ('kind' in file) {
      problems.push(file)
      continue
    }
    files.push(file)
    for (const pattern of importsOf(file, problems)) {
      try {
        for (const found of await resolveImport(pattern, file.path, reader, dialect)) {
          pending.push({ path: found, importedBy: file.path })
        }
      } catch (error) {
        if (!(error instanceof GlobError)) throw error
        const reason = `imports ${JSON.stringify(pattern)}: ${error.message}`
        problems.push({ kind: 'invalid', file: file.path, line: file.table.get('imports')?.line, reason })
      }
    }
  }
  return { files, problems }
}

async function readConfigFile(
  { path, importedBy }: { path: string; importedBy?: string },
  reader: ConfigReader,
  { byteOrderMark }: Dialect,
): Promise<ConfigFile | ConfigProblem> {
  const at = { file: path, importedBy }
  let text: string
  try {
    const bytes = await reader.read(path)
    if (bytes === undefined) return { ...at, kind: 'missing', reason: 'it is not there' }
    text = bytes.toString('utf8')
    if (byteOrderMark) text = withoutByteOrderMark(text)
  } catch (error) {
    return { ...at, kind: 'unreadable', reason: (error as Error).message }
  }
  let table: ConfigTable
  try {
    table = sourced(parseToml(text), path)
  } catch (error) {
    if (!(error instanceof TomlError)) throw error
    return { ...at, kind: 'broken', line: error.line, column: error.column, reason: error.reason }
  }
  const { value: version = 0, line } = table.get('version') ?? {}
  if (typeof version !== 'number' || !Number.isInteger(version)) {
    return { ...at, kind: 'invalid', line, reason: '`version` is not an integer' }
  }
  const plugins = table.get('plugins')
  if (plugins !== undefined && !isTable(plugins.value)) {
    return { ...at, kind: 'invalid', line: plugins.line, reason: '`plugins` is not a table' }
  }
  return { path, text, version, table }
}

function importsOf({ path, table }: ConfigFile, problems: ConfigProblem[]): readonly string[] {
  const imports = table.get('imports')
  if (imports === undefined) return []
  const names = listOf(imports)?.map(({ value }) => value)
  if (names?.every((name) => typeof name === 'string')) return names
  problems.push({ kind: 'invalid', file: path, line: imports.line, reason: '`imports` is not a list of texts' })
  return []
}

async function resolveImport(
  pattern: string,
  parent: string,
  reader: ConfigReader,
  dialect: Dialect,
): Promise<string[]> {
  const globbed = pattern.includes('*')
  // The working directory of what systemd starts is the root.
  const base = globbed && dialect.relativeGlobs === 'working directory' ? '/' : posix.dirname(parent)
  const absolute = pattern.startsWith('/') ? posix.normalize(pattern) : posix.join(base, pattern)
  return globbed ? await glob(absolute, reader) : [absolute.replace(/(.)\/$/, '$1')]
}

function sourced(table: TomlTable, file: string): ConfigTable {
  const entryOf = ({ value, line }: TomlEntry): Sourced => ({ value: withSource(value), file, line })
  const tableOf = (table: TomlTable) => new Map([...table].map(([name, entry]) => [name, entryOf(entry)]))
  const withSource = (value: TomlValue): ConfigValue =>
    value instanceof Map ? tableOf(value) : Array.isArray(value) ? value.map(entryOf) : (value as ConfigValue)
  return tableOf(table)
}

export function isTable(value: ConfigValue | undefined): value is ConfigTable {
  return value instanceof Map
}

/** The elements of a list; `undefined` for anything else. */
export function listOf(entry: Sourced | undefined): readonly Sourced[] | undefined {
  return Array.isArray(entry?.value) ? (entry.value as readonly Sourced[]) : undefined
}

/** The value at a path of table names; `undefined` if it or a table on the way is missing. */
export function lookup(table: ConfigTable | undefined, ...path: readonly string[]): Sourced | undefined {
  let found: Sourced | undefined
  let at = table
  for (const name of path) {
    found = at?.get(name)
    at = isTable(found?.value) ? found.value : undefined
  }
  return found
}

/** The table at a path of table names; an empty one if there is none. */
export function tableAt(table: ConfigTable | undefined, ...path: readonly string[]): ConfigTable {
  const value = lookup(table, ...path)?.value
  return isTable(value) ? value : new Map()
}
