import { dirname, join } from 'node:path'
import { TomlError } from '../check/config/toml.ts'
import { findBlock, type MirrorEntry, makeBlock, mentionsBlock } from './block.ts'
import { type Dialect, dialectOf } from './dialect.ts'
import { DEFAULT_NAMESPACE, directoriesOf, dockerCertificates, HOSTS_FILE } from './directory.ts'
import { isUrl, putIn, takeOut, verifyEdit } from './edit.ts'
import type { HostsFiles } from './files.ts'
import { HostsError } from './hosts-error.ts'
import { type HostEntry, readHostsAs } from './reading.ts'
import { rootLinesFor } from './root-lines.ts'

/** The name under which the original of a file is kept beside it. */
export const BACKUP_FILE = `${HOSTS_FILE}.swarmirror-backup`

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
  /** Whether `before` is somebody's original, which is kept as {@link BACKUP_FILE}. */
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

export interface HostsTarget {
  readonly certsDir: string
  /** `_default` is one, too. */
  readonly registries: readonly string[]
  readonly mirror: MirrorEntry
  /** As containerd tells it, if it could be asked. */
  readonly version: string | undefined
}

/**
 * Looks at the hosts.toml of each registry and decides what to do, without doing it.
 *
 * @throws what the file system throws, but for what is not there
 */
export async function planWrite(target: HostsTarget, files: HostsFiles): Promise<Plan> {
  return await collect(target.registries, async (registry) => {
    const [directory] = await directoriesOf(files, target.certsDir, registry)
    const path = join(directory ?? join(target.certsDir, registry), HOSTS_FILE)
    return { path, plan: () => planFile({ ...target, registry, path, exists: directory !== undefined }, files) }
  })
}

/**
 * Looks for our entries and decides how to take them out.
 *
 * @param registries of these only; of all that have a directory, if missing
 */
export async function planRemove(
  { certsDir, registries }: { readonly certsDir: string; readonly registries?: readonly string[] | undefined },
  files: HostsFiles,
): Promise<Plan> {
  const named = registries && (await Promise.all(registries.map((name) => directoriesOf(files, certsDir, name)))).flat()
  const listed = (await files.list(certsDir)) ?? []
  const all = listed
    .filter(({ name, directory }) => directory && !name.startsWith('.'))
    .map(({ name }) => join(certsDir, name))
  const plan = await collect((named ?? all).sort(), async (directory) => {
    const path = join(directory, HOSTS_FILE)
    return { path, plan: () => planRemoval(path, files) }
  })
  return { ...plan, changes: plan.changes.filter(({ before, after }) => before !== after) }
}

async function collect(
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

interface FileTarget extends HostsTarget {
  readonly registry: string
  readonly path: string
  /** Whether the directory is there. */
  readonly exists: boolean
}

async function planFile(file: FileTarget, files: HostsFiles): Promise<Change> {
  const { path, registry, version } = file
  if (!file.exists && registry !== DEFAULT_NAMESPACE) await refuseShadowing(file, files)
  const target = await targetOf(path, files)
  const before = await readText(target, files)
  const notes = await notesOf(file, files)
  const found = before === undefined ? undefined : findBlock(before)
  const base = before === undefined || found === undefined ? (before ?? '') : (takeOut(before) ?? '')
  const dialect = dialectOf(version)
  const reading = readHostsAs(base, dialect)
  if (reading.kind === 'hosts' && found === undefined && isRight(reading.hosts[0], file.mirror)) {
    return {
      ...unchanged(path, target, before),
      notes: [...notes, 'the mirror is there already, not written by swarmirror'],
    }
  }
  await refuseUnread(file, base, dialect, files)
  const origin = found?.origin ?? {
    newFile: before === undefined,
    madeDirectories: file.exists ? 0 : await missingDirectories(dirname(path), files),
  }
  const rootLines = base === '' ? await rootLinesFor(registry, dirname(path), file.certsDir, files) : []
  const mirror = {
    ...file.mirror,
    dialTimeout: file.mirror.dialTimeout ?? (version === undefined ? dialTimeoutOf(found?.lines) : undefined),
  }
  const after = putIn(base, makeBlock(mirror, origin, rootLines), mirror)
  verifyEdit(base, after, mirror, dialect)
  if (after === before) return { ...unchanged(path, target, before), notes }
  const others = reading.kind === 'hosts' ? reading.hosts.filter(({ name }) => !isUrl(name, mirror.url)) : []
  if (others.length > 0) notes.push(`asked after the mirror as before: ${others.map(({ name }) => name).join(', ')}`)
  const original = before !== undefined && found === undefined
  if (original) await refuseLoss(target, before, after, files)
  const action = before === undefined ? 'create' : 'update'
  await refuseReadOnly(target, files)
  return { path, target, before, after, action, original, madeDirectories: origin.madeDirectories, notes }
}

function unchanged(path: string, target: string, text: string | undefined): Change {
  return { path, target, before: text, after: text, action: 'keep', original: false, madeDirectories: 0, notes: [] }
}

/** Whether the first host is our mirror, with the capabilities that it should have. */
export function isRight(first: HostEntry | undefined, mirror: MirrorEntry): boolean {
  if (first === undefined || !isUrl(first.name, mirror.url)) return false
  return [...first.capabilities].sort().join() === [...mirror.capabilities].sort().join()
}

/** Where containerd could not be asked for its version, a timeout that was written when it could stays. */
function dialTimeoutOf(lines: readonly string[] = []): string | undefined {
  return lines.map((line) => /^ *dial_timeout = "([^"\\]*)"$/.exec(line)?.[1]).find((value) => value !== undefined)
}

/** A new directory takes a registry away from `_default`, and with it from whatever others wrote there. */
async function refuseShadowing({ certsDir, registry, path }: FileTarget, files: HostsFiles): Promise<void> {
  const directory = join(certsDir, DEFAULT_NAMESPACE)
  const text = await readText(join(directory, HOSTS_FILE), files)
  const { ca, client } = await dockerCertificates(files, directory)
  const others = text === undefined || text === '' ? ca.length + client.length > 0 : (takeOut(text) ?? text) !== ''
  if (!others) return
  throw new HostsError(
    `${registry} has no directory, so what others wrote in ${directory} counts for it, which ${dirname(path)} would take away; make that directory, with a hosts.toml of what shall count there, or leave out --registries`,
    0,
  )
}

/** What containerd does not read must not begin to count because we write into it. */
async function refuseUnread(
  { path, version }: FileTarget,
  base: string,
  dialect: Dialect,
  files: HostsFiles,
): Promise<void> {
  // Without a version, what at least the newest reads is somebody's valid file.
  const reader =
    version === undefined ? { needsHost: false, headersOnly: true, referrers: true, dialTimeout: true } : dialect
  const reading = readHostsAs(base, { ...reader, needsHost: false })
  if (reading.kind === 'discarded') throw new HostsError(reading.reason, reading.line, reading.column)
  if (base === '' || !dialect.needsHost || readHostsAs(base, dialect).kind === 'hosts') return
  const { ca, client } = await dockerCertificates(files, dirname(path))
  if (ca.length + client.length === 0) return
  throw new HostsError(
    'without a [host] table containerd discards the file and takes the certificates beside it, which a valid file ends; name them with `ca` and `client` in a [host] table',
    0,
  )
}

async function notesOf({ certsDir, registry }: FileTarget, files: HostsFiles): Promise<string[]> {
  const [counts, ...shadowed] = await directoriesOf(files, certsDir, registry)
  return shadowed.map((directory) => `${directory} does not count beside ${counts}`)
}

async function planRemoval(path: string, files: HostsFiles): Promise<Change> {
  const target = await targetOf(path, files)
  const before = await readText(target, files)
  const found = before === undefined || !mentionsBlock(before) ? undefined : findBlock(before)
  if (before === undefined || found === undefined) return unchanged(path, target, before)
  const after = takeOut(before) ?? ''
  await refuseReadOnly(target, files)
  const change = { path, target, before, original: false, madeDirectories: 0, notes: [] }
  const backup = await readText(join(dirname(target), BACKUP_FILE), files)
  if (backup !== undefined && (backup === after || reproduces(backup, before))) {
    return { ...change, after: backup, action: 'restore' }
  }
  const { newFile, madeDirectories } = found.origin
  if (newFile && after === '') return { ...change, after: undefined, action: 'delete', madeDirectories }
  const notes = backup === undefined ? [] : [`changed by others since; the file before it is kept as ${BACKUP_FILE}`]
  return { ...change, after, action: 'take-out', notes }
}

/** Whether writing our block into the backup gives the file as it is: then nobody changed it since. */
function reproduces(backup: string, current: string): boolean {
  const block = findBlock(current)
  const url = block?.lines.map((line) => /^\[host\.(".*")\]$/.exec(line)?.[1]).find((name) => name !== undefined)
  if (block === undefined || url === undefined) return false
  try {
    return putIn(backup, block, { url: JSON.parse(url) as string, capabilities: [] }) === current
  } catch (error) {
    // Another file altogether, in which the block has no place.
    if (error instanceof HostsError || error instanceof TomlError) return false
    throw error
  }
}

/** A table that somebody wrote by hand for the mirror is replaced only if the original can be had back. */
async function refuseLoss(target: string, before: string, after: string, files: HostsFiles): Promise<void> {
  const backup = join(dirname(target), BACKUP_FILE)
  const kept = await readText(backup, files)
  if (kept === undefined || kept === before || takeOut(after) === before) return
  throw new HostsError(`${backup} is there from before, and of another text: move it away`, 0)
}

/** Every file is looked at before the first one is written, whether it can be written included. */
async function refuseReadOnly(target: string, files: HostsFiles): Promise<void> {
  let directory = dirname(target)
  while ((await files.real(directory)) === undefined) directory = dirname(directory)
  const problem = await files.unwritable(directory)
  if (problem !== undefined) throw new HostsError(`${directory} cannot be written: ${problem}`, 0)
}

/**
 * The file that a path leads to, for which there may be several paths. A link that leads nowhere must not be replaced by
 * a file.
 */
async function targetOf(path: string, files: HostsFiles): Promise<string> {
  const directory = dirname(path)
  if (!(await files.isLink(path))) return join((await files.real(directory)) ?? directory, HOSTS_FILE)
  const target = await files.real(path)
  if (target === undefined)
    throw new HostsError('a link that leads to nothing here: make what it leads to reachable', 0)
  return target
}

async function missingDirectories(directory: string, files: HostsFiles): Promise<number> {
  let missing = 0
  for (let at = directory; (await files.real(at)) === undefined; at = dirname(at)) missing += 1
  return missing
}

async function readText(path: string, files: HostsFiles): Promise<string | undefined> {
  const bytes = await files.read(path)
  if (bytes === undefined) return undefined
  const text = bytes.toString('utf8')
  if (!Buffer.from(text, 'utf8').equals(bytes)) throw new HostsError('not UTF-8, which TOML demands', 0)
  return text
}
