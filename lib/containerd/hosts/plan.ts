import { dirname, join } from 'node:path'
import { type Dialect, dialectOf, NEWEST } from '../dialect.ts'
import { findBlock, type MirrorEntry, makeBlock } from './block.ts'
import { backupOf, type Change, collect, type Plan, readText, refuseReadOnly, targetOf, unchanged } from './change.ts'
import { DEFAULT_NAMESPACE, directoriesOf, dockerCertificates, HOSTS_FILE } from './directory.ts'
import { asksAt, isUrl, putIn, takeOut, verifyEdit } from './edit.ts'
import type { HostsFiles } from './files.ts'
import { HostsError } from './hosts-error.ts'
import { type HostEntry, readHostsAs } from './reading.ts'
import { rootLinesFor } from './root-lines.ts'

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

/** Whether the first host is our mirror, with the capabilities that it should have. */
export function isRight(first: HostEntry | undefined, mirror: MirrorEntry): boolean {
  if (first === undefined || !asksAt(first, mirror.url)) return false
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
  const reader = version === undefined ? NEWEST : dialect
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

/** A table that somebody wrote by hand for the mirror is replaced only if the original can be had back. */
async function refuseLoss(target: string, before: string, after: string, files: HostsFiles): Promise<void> {
  const backup = backupOf(target)
  const kept = await readText(backup, files)
  if (kept === undefined || kept === before || takeOut(after) === before) return
  throw new HostsError(`${backup} is there from before, and of another text: move it away`, 0)
}

async function missingDirectories(directory: string, files: HostsFiles): Promise<number> {
  let missing = 0
  for (let at = directory; (await files.real(at)) === undefined; at = dirname(at)) missing += 1
  return missing
}
