import { randomBytes } from 'node:crypto'
import { dirname, join } from 'node:path'
import { backupOf, type Change } from './change.ts'
import { HOSTS_FILE } from './directory.ts'
import type { HostsFiles } from './files.ts'

/** Names of files and directories of a write that is under way. containerd looks for none of them. */
const STAGED = '.swarmirror-'

/** A write failed in the middle. Each file is as it was or as it should be, and those before it are done. */
export class HostsWriteError extends Error {
  override readonly name = 'HostsWriteError'
  readonly done: readonly Change[]
  readonly failed: Change
  readonly untouched: readonly Change[]

  constructor(parts: Pick<HostsWriteError, 'done' | 'failed' | 'untouched'>, cause: unknown) {
    super(`${parts.failed.path}: ${cause instanceof Error ? cause.message : String(cause)}`, { cause })
    this.done = parts.done
    this.failed = parts.failed
    this.untouched = parts.untouched
  }
}

/**
 * Makes the changes, one after the other. Each file is replaced by a rename, so that containerd and a crash see the old
 * one or the new one.
 *
 * @throws {HostsWriteError} at the first change that fails
 */
export async function applyChanges(certsDir: string, changes: readonly Change[], files: HostsFiles): Promise<void> {
  const emptied: string[] = []
  // Also where nothing is to be done, as after a removal that was killed; then it is no matter if it cannot be.
  const idle = changes.every(({ action }) => action === 'keep')
  await removeStaged(certsDir, files).catch((error: unknown) => {
    if (!idle) throw error
  })
  for (const [index, change] of changes.entries()) {
    try {
      await apply(certsDir, change, files, emptied)
    } catch (error) {
      throw new HostsWriteError(
        { done: changes.slice(0, index), failed: change, untouched: changes.slice(index + 1) },
        error,
      )
    }
  }
  // Longest first: a directory before the one it is in.
  for (const directory of [...new Set(emptied)].sort((a, b) => b.length - a.length)) {
    if ((await files.list(directory))?.length === 0) await files.removeDirectory(directory)
  }
}

async function apply(certsDir: string, change: Change, files: HostsFiles, emptied: string[]): Promise<void> {
  const { path, target, after, action } = change
  if (action === 'keep') return
  if ((await files.read(target))?.toString('utf8') !== change.before) throw new Error('changed by others meanwhile')
  const directory = dirname(target)
  if (action === 'create' && change.madeDirectories > 0) {
    await createDirectory(certsDir, dirname(path), after ?? '', files)
    return
  }
  await removeStaged(directory, files)
  if (action === 'delete') {
    await deleteFile(certsDir, change, files, emptied)
    return
  }
  if (action === 'restore') {
    await files.rename(backupOf(target), target)
  } else {
    if (action === 'update') await keepOriginal(change, files)
    await replace(target, after ?? '', files, change.before === undefined ? undefined : await files.ownership(target))
    if (action === 'take-out') await forgetBackup(change, files)
  }
  await files.syncDirectory(directory)
}

/** Writes the file beside its place, and moves it there. */
async function replace(
  target: string,
  text: string,
  files: HostsFiles,
  ownership: Awaited<ReturnType<HostsFiles['ownership']>> | undefined,
): Promise<void> {
  const staged = join(dirname(target), `${STAGED}${randomBytes(6).toString('hex')}`)
  try {
    await files.create(staged, Buffer.from(text, 'utf8'), ownership)
    await files.rename(staged, target)
  } catch (error) {
    await files.unlink(staged).catch(() => undefined)
    throw error
  }
}

/**
 * Makes the directory with its file in one step: an empty directory would already take the registry away from
 * `_default`.
 */
async function createDirectory(certsDir: string, directory: string, text: string, files: HostsFiles): Promise<void> {
  await makeDirectories(certsDir, files)
  const staged = join(certsDir, `${STAGED}${randomBytes(6).toString('hex')}`)
  await files.makeDirectory(staged)
  await files.create(join(staged, HOSTS_FILE), Buffer.from(text, 'utf8'), undefined)
  await files.syncDirectory(staged)
  await files.rename(staged, directory)
  await files.syncDirectory(certsDir)
}

async function makeDirectories(directory: string, files: HostsFiles): Promise<void> {
  if ((await files.real(directory)) !== undefined) return
  await makeDirectories(dirname(directory), files)
  await files.makeDirectory(directory)
  await files.syncDirectory(dirname(directory))
}

/** Gives the original a second name. An earlier one is left as it is: it is nearer to what was there before us. */
async function keepOriginal({ target, original }: Change, files: HostsFiles): Promise<void> {
  const backup = backupOf(target)
  if (!original || (await files.read(backup)) !== undefined) return
  await files.link(target, backup)
}

/** Ends a backup that says nothing more than the file itself. */
async function forgetBackup({ target, after }: Change, files: HostsFiles): Promise<void> {
  const backup = backupOf(target)
  if ((await files.read(backup))?.toString('utf8') === after) await files.unlink(backup)
}

async function deleteFile(certsDir: string, change: Change, files: HostsFiles, emptied: string[]): Promise<void> {
  const directory = dirname(change.target)
  const alone = (await files.list(directory))?.length === 1
  if (change.madeDirectories > 0 && alone && !(await files.isLink(dirname(change.path)))) {
    const staged = await movedAside(certsDir, directory, files)
    await files.unlink(join(staged, HOSTS_FILE))
    await files.removeDirectory(staged)
    let above = dirname(directory)
    for (let made = 1; made < change.madeDirectories; made++, above = dirname(above)) emptied.push(above)
    return
  }
  await files.unlink(change.target)
  await files.syncDirectory(directory)
}

/**
 * Moves a directory away in one step, so that it is not there without its file, and tells where it is then: in its place, if it
 * is of a lower layer of an overlay, which lets no directory of it be moved.
 */
async function movedAside(certsDir: string, directory: string, files: HostsFiles): Promise<string> {
  const staged = join(certsDir, `${STAGED}${randomBytes(6).toString('hex')}`)
  try {
    await files.rename(directory, staged)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EXDEV') throw error
    return directory
  }
  await files.syncDirectory(certsDir)
  return staged
}

/** Takes away what a write that was killed left behind. */
async function removeStaged(directory: string, files: HostsFiles): Promise<void> {
  for (const { name, directory: isDirectory } of (await files.list(directory)) ?? []) {
    if (!name.startsWith(STAGED)) continue
    const path = join(directory, name)
    if (!isDirectory) {
      await files.unlink(path)
      continue
    }
    for (const left of (await files.list(path)) ?? []) await files.unlink(join(path, left.name))
    await files.removeDirectory(path)
  }
}
