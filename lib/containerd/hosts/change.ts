import { dirname, join } from 'node:path'
import { TomlError } from '../../toml/toml.ts'
import { HOSTS_FILE } from './directory.ts'
import { type HostsFiles, isRefusal } from './files.ts'
import { HostsError } from './hosts-error.ts'

/** Where the original of a file is kept: beside it, by its own name, since several may be linked to in one directory. */
export function backupOf(target: string): string {
  return `${target}.swarmirror-backup`
}

/** What is to be done with one hosts.toml. */
export interface Change {
  /** As containerd looks for it. */
  readonly path: string
  /** The file itself, where `path` is a link. */
  readonly target: string
  readonly before: string | undefined
  /** `undefined`: the file goes. */
  readonly after: string | undefined
  readonly action: 'create' | 'update' | 'keep' | 'restore' | 'take-out' | 'delete'
  /** Whether `before` is somebody's original, which is kept (see {@link backupOf}). */
  readonly original: boolean
  /** For `create` and `delete`: how many directories are made for it, or were. */
  readonly madeDirectories: number
  /** What a person should know, each a sentence without a full stop. */
  readonly notes: readonly string[]
}

/** Why a hosts.toml is not touched. */
export interface Refusal {
  readonly path: string
  readonly reason: string
}

export interface Plan {
  readonly changes: readonly Change[]
  readonly refusals: readonly Refusal[]
}

/** Prepares and plans one file after the other; what must not be touched becomes a refusal, the rest goes on. */
export async function collect(
  names: readonly string[],
  prepare: (name: string) => Promise<{ path: string; plan: () => Promise<Change> }>,
): Promise<Plan> {
  const changes: Change[] = []
  const refusals: Refusal[] = []
  for (const name of names) {
    const { path, plan } = await prepare(name)
    try {
      const change = await plan()
      if (!changes.some(({ target }) => target === change.target)) changes.push(change)
    } catch (error) {
      if (error instanceof TomlError) refusals.push({ path, reason: error.message })
      else if (error instanceof HostsError) refusals.push({ path, reason: `${placeOf(error)}${error.message}` })
      else if (isRefusal(error)) refusals.push({ path, reason: error.message })
      else throw error
    }
  }
  return { changes, refusals }
}

/** An error that is about the file as a whole has line 0. */
function placeOf({ line, column }: HostsError): string {
  if (line === 0) return ''
  return column === undefined ? `line ${line}: ` : `line ${line}, column ${column}: `
}

/** A file that stays as it is. */
export function unchanged(path: string, target: string, text: string | undefined): Change {
  return { path, target, before: text, after: text, action: 'keep', original: false, madeDirectories: 0, notes: [] }
}

/** Every file is looked at before the first one is written, whether it can be written included. */
export async function refuseReadOnly(target: string, files: HostsFiles): Promise<void> {
  let directory = dirname(target)
  while ((await files.real(directory)) === undefined) directory = dirname(directory)
  const problem = await files.unwritable(directory)
  if (problem !== undefined) throw new HostsError(`${directory} cannot be written: ${problem}`, 0)
}

/**
 * The file that a path leads to, for which there may be several paths. A link that leads nowhere must not be replaced by
 * a file.
 */
export async function targetOf(path: string, files: HostsFiles): Promise<string> {
  const directory = dirname(path)
  if (!(await files.isLink(path))) return join((await files.real(directory)) ?? directory, HOSTS_FILE)
  const target = await files.real(path)
  if (target === undefined)
    throw new HostsError('a link that leads to nothing here: make what it leads to reachable', 0)
  return target
}

/** @throws {HostsError} for what is not UTF-8 */
export async function readText(path: string, files: HostsFiles): Promise<string | undefined> {
  const bytes = await files.read(path)
  if (bytes === undefined) return undefined
  const text = bytes.toString('utf8')
  if (!Buffer.from(text, 'utf8').equals(bytes)) throw new HostsError('not UTF-8, which TOML demands', 0)
  return text
}
