import { randomBytes } from 'node:crypto'
import { dirname, join } from 'node:path'
import type { HostsFiles } from './files.ts'
import { HOSTS_FILE } from './look.ts'
import type { Change } from './plan.ts'

/** Names of files and directories during a write. containerd ignores them. */
const STAGED = '.swarmirror-'

/** A write failed half-way. Each file is either old or new, and the changes before the failed one are done. */
export class HostsWriteError extends Error {
  override readonly name = 'HostsWriteError'
  readonly done: readonly Change[]
  readonly untouched: readonly Change[]

  constructor(changes: readonly Change[], failed: number, cause: unknown) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    super(`${changes[failed]?.path}: ${reason}`, { cause })
    this.done = changes.slice(0, failed)
    this.untouched = changes.slice(failed + 1)
  }
}

/**
 * Makes the changes, one after the other. A rename replaces each file, so that containerd always sees the old one or the new one,
 * even after a crash.
 *
 * @throws {HostsWriteError} at the first change that fails
 */
export async function applyChanges(certsDir: string, changes: readonly Change[], files: HostsFiles): Promise<void> {
  // Removes what a killed write left, if possible, even if there is nothing else to do.
  const idle = changes.every(({ action }) => action === 'keep')
  await removeStaged(certsDir, files).catch((error: unknown) => {
    if (!idle) throw error
  })
  for (const [index, change] of changes.entries()) {
    try {
      await apply(certsDir, change, files)
    } catch (error) {
      throw new HostsWriteError(changes, index, error)
    }
  }
}

async function apply(certsDir: string, change: Change, files: HostsFiles): Promise<void> {
  const { path, target, before, after = '', action } = change
  if (action === 'keep') return
  if ((await files.read(target))?.toString('utf8') !== before) throw new Error('somebody changed it meanwhile')
  const directory = dirname(target)
  if ((await files.real(dirname(path))) === undefined)
    return await createDirectory(certsDir, dirname(path), after, files)
  await removeStaged(directory, files)
  if (action === 'delete') return await deleteFile(certsDir, change, files)
  await write(target, after, before === undefined ? undefined : target, files)
  await files.syncDirectory(directory)
}

/** Writes a file beside its place, with another file's mode and owner, and moves it there. */
async function write(target: string, text: string, like: string | undefined, files: HostsFiles): Promise<void> {
  const staged = stagedIn(dirname(target))
  try {
    await files.create(staged, Buffer.from(text, 'utf8'), like)
    await files.rename(staged, target)
  } catch (error) {
    await files.unlink(staged).catch(() => undefined)
    throw error
  }
}

function stagedIn(directory: string): string {
  return join(directory, `${STAGED}${randomBytes(6).toString('hex')}`)
}

/**
 * Makes the directory and its file in one step, because an empty directory would already take the registry away from
 * `_default`.
 */
async function createDirectory(certsDir: string, directory: string, text: string, files: HostsFiles): Promise<void> {
  await makeDirectories(certsDir, files)
  const staged = stagedIn(certsDir)
  await files.makeDirectory(staged)
  await files.create(join(staged, HOSTS_FILE), Buffer.from(text, 'utf8'))
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

/** Deletes a file, and its directory if that is then empty: an empty one would keep the registry from `_default`. */
async function deleteFile(certsDir: string, { path, target }: Change, files: HostsFiles): Promise<void> {
  const directory = dirname(target)
  const isAlone = (await files.list(directory))?.length === 1
  if (!isAlone || (await files.isLink(path)) || (await files.isLink(dirname(path)))) {
    await files.unlink(target)
    await files.syncDirectory(directory)
    return
  }
  const staged = await movedAside(certsDir, directory, files)
  await files.unlink(join(staged, HOSTS_FILE))
  await files.removeDirectory(staged)
}

/**
 * Moves a directory away in one step, so that it never exists without its file.
 *
 * @returns its new place, or the old one if it belongs to a lower layer of an overlay, whose directories cannot be moved
 */
async function movedAside(certsDir: string, directory: string, files: HostsFiles): Promise<string> {
  const staged = stagedIn(certsDir)
  try {
    await files.rename(directory, staged)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EXDEV') throw error
    return directory
  }
  await files.syncDirectory(certsDir)
  return staged
}

/** Removes what a killed write left behind. */
async function removeStaged(directory: string, files: HostsFiles): Promise<void> {
  for (const { name, directory: isDirectory } of (await files.list(directory)) ?? []) {
    if (!name.startsWith(STAGED)) continue
    const path = join(directory, name)
    if (isDirectory) {
      for (const left of (await files.list(path)) ?? []) await files.unlink(join(path, left.name))
      await files.removeDirectory(path)
    } else await files.unlink(path)
  }
}
