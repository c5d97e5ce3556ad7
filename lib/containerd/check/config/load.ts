import { posix } from 'node:path'
import { isTable, listOf, parseToml, TomlError, type TomlTable } from '../../../toml/toml.ts'
import { isRefusal } from '../../hosts/files.ts'
import { type ConfigReader, glob } from './glob.ts'

/** containerd's files as this process sees them. */
export interface ConfigFiles extends ConfigReader {
  /** Path of the main file. */
  readonly path: string
}

/** A file that keeps containerd from starting with this configuration, or that could not be read. */
export interface ConfigProblem {
  /** `missing`: not there; `unreadable`: we may not read it; `invalid`: containerd refuses it. */
  readonly kind: 'missing' | 'unreadable' | 'invalid'
  readonly file: string
  /** From 1, if known. */
  readonly line?: number | undefined
  readonly column?: number | undefined
  readonly reason: string
  /** The file that imports it; missing for the main one. */
  readonly importedBy?: string | undefined
}

/** Whether the main file is missing. Then it may be elsewhere, or containerd runs without one. */
export const isMainMissing = ({ kind, importedBy }: ConfigProblem) => kind === 'missing' && importedBy === undefined

/** A configuration file. */
export interface ConfigFile {
  readonly path: string
  readonly text: string
  /** The `version` that it names; 0 if none. */
  readonly version: number
  readonly table: TomlTable
}

/** Everything that containerd would read, in its order, and what would keep it from starting. */
export interface LoadedConfig {
  readonly files: readonly ConfigFile[]
  readonly problems: readonly ConfigProblem[]
}

/** The most files to follow: far more than anyone has, as a guard against a directory of other files. */
const FILE_LIMIT = 1_000

/**
 * Reads the main file and its imports, breadth first as containerd does: each file once, and a file's imports after all that were
 * waiting before. Only a file's own `imports` count: a file without any does not get those of containerd's default configuration
 * (LoadConfig in containerd 2.1.9 to 2.3). Reading continues after a problem, so that the check can report all at once.
 */
export async function loadConfig(reader: ConfigFiles): Promise<LoadedConfig> {
  const files: ConfigFile[] = []
  const problems: ConfigProblem[] = []
  const pending: { path: string; importedBy?: string }[] = [{ path: reader.path }]
  // The list grows during the loop.
  for (const { path, importedBy } of pending) {
    const file = await readConfigFile(path, reader)
    if ('kind' in file) {
      problems.push({ file: path, importedBy, ...file })
      continue
    }
    files.push(file)
    const imports = await importsOf(file, reader)
    if (imports === undefined) {
      const { line } = file.table.get('imports') ?? {}
      problems.push({ kind: 'invalid', file: path, line, reason: '`imports` is not a list of texts' })
    }
    for (const found of imports ?? []) {
      if (!pending.some(({ path }) => path === found)) pending.push({ path: found, importedBy: path })
    }
    if (pending.length <= FILE_LIMIT) continue
    problems.push({ kind: 'invalid', file: reader.path, reason: `imports more than ${FILE_LIMIT} files` })
    break
  }
  return { files, problems }
}

async function readConfigFile(path: string, reader: ConfigReader): Promise<ConfigFile | Omit<ConfigProblem, 'file'>> {
  try {
    const bytes = await reader.read(path)
    if (bytes === undefined) return { kind: 'missing', reason: 'it is not there' }
    const text = bytes.toString('utf8')
    const table = parseToml(text, path)
    const { value: version = 0, line } = table.get('version') ?? {}
    if (typeof version !== 'number' || !Number.isInteger(version))
      return { kind: 'invalid', line, reason: '`version` is not an integer' }
    const plugins = table.get('plugins')
    if (plugins !== undefined && !isTable(plugins.value))
      return { kind: 'invalid', line: plugins.line, reason: '`plugins` is not a table' }
    return { path, text, version, table }
  } catch (error) {
    if (isRefusal(error)) return { kind: 'unreadable', reason: error.message }
    if (!(error instanceof TomlError)) throw error
    return { kind: 'invalid', line: error.line, column: error.column, reason: error.reason }
  }
}

/** The files that a file imports; `undefined` if `imports` is not a list of texts. */
async function importsOf({ path, table }: ConfigFile, reader: ConfigReader): Promise<string[] | undefined> {
  const listed = table.get('imports')
  const patterns = listed === undefined ? [] : listOf(listed)?.map(({ value }) => value)
  if (!patterns?.every((pattern) => typeof pattern === 'string')) return undefined
  const imports: string[] = []
  for (const pattern of patterns) {
    const absolute = posix.resolve(posix.dirname(path), pattern)
    imports.push(...(pattern.includes('*') ? await glob(absolute, reader) : [absolute]))
  }
  return imports
}
