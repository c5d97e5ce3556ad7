import { posix } from 'node:path'
import { isTable, listOf, parseToml, TomlError, type TomlTable } from '../../../toml/toml.ts'
import { type HostsReader, isRefusal } from '../../hosts/files.ts'

/** Reads containerd's configuration. Returns `undefined` for what is not there, and throws what the file system refuses. */
export type ConfigReader = Pick<HostsReader, 'read' | 'list'>

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

/** The most files to follow: far more than anyone has, as a guard against a directory of other files. */
const FILE_LIMIT = 1_000

/**
 * Reads the main file and its imports, breadth first as containerd does: each file once, and a file's imports after all that were
 * waiting before. Only a file's own `imports` count: a file without any does not get those of containerd's default configuration
 * (LoadConfig in containerd 2.1.9 to 2.3). Reading continues after a problem, so that the check can report all at once.
 *
 * @returns the files in that order, and what would keep containerd from starting
 */
export async function loadConfig(reader: ConfigFiles) {
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

/**
 * The matching paths, where `*` is any text within a name and `?` any character, in the order in which containerd imports: by name
 * within a directory. As in containerd, a directory that cannot be listed matches nothing. Classes and escapes, which Go also
 * knows, match literally, since nobody imports by them.
 */
export async function glob(pattern: string, files: ConfigReader): Promise<string[]> {
  const [directory, name] = [posix.dirname(pattern), posix.basename(pattern)]
  const source = name
    .replace(/[^*?]+/g, (text) => RegExp.escape(text))
    .replaceAll('?', '.')
    .replaceAll('*', '.*')
  const expression = new RegExp(`^${source}$`, 'su')
  const found: string[] = []
  for (const parent of /[*?]/.test(directory) ? await glob(directory, files) : [directory]) {
    const listed = (await files.list(parent).catch(() => undefined)) ?? []
    const names = listed.map(({ name }) => name).filter((name) => expression.test(name))
    // By code units, which is independent of the locale, and for usual file names the same as Go's order of bytes.
    found.push(...names.sort().map((name) => posix.join(parent, name)))
  }
  return found
}
