import { basename, join } from 'node:path'
import { TomlError } from '../../toml/toml.ts'
import { findBlock } from './block.ts'
import { putIn, takeOut } from './edit.ts'
import type { HostsFiles } from './files.ts'
import { directoriesFor, lookAt } from './look.ts'
import { backupOf, type Change, collect, keep, type Plan } from './plan.ts'

/**
 * Looks for our entries and decides how to take them out.
 *
 * @param registries of these only; of all that have a directory, if missing
 * @throws what the file system refuses in the certs directory itself
 */
export async function planRemove(
  { certsDir, registries }: { readonly certsDir: string; readonly registries?: readonly string[] | undefined },
  files: HostsFiles,
): Promise<Plan> {
  const listed = (await files.list(certsDir)) ?? []
  const all = listed.filter(({ name, directory }) => directory && !name.startsWith('.'))
  const directories =
    registries?.flatMap((registry) => directoriesFor(registry, certsDir)) ?? all.map(({ name }) => join(certsDir, name))
  const plan = await collect(directories.sort(), files, async (directory) => ({
    directory,
    plan: () => planRemoval(directory, files),
  }))
  const changes = plan.changes.filter(({ action }) => action !== 'keep')
  // The file for which the certs directory was made goes last: then the directory is empty.
  return { ...plan, changes: changes.sort((a, b) => a.madeDirectories - b.madeDirectories) }
}

async function planRemoval(directory: string, files: HostsFiles): Promise<Change> {
  const unchanged = keep(await lookAt(directory, files))
  const { target, before } = unchanged
  const found = before === undefined ? undefined : findBlock(before)
  if (before === undefined || found === undefined) return unchanged
  const after = takeOut(before) ?? ''
  const backup = (await files.read(backupOf(target)))?.toString('utf8')
  if (backup !== undefined && (backup === after || reproduces(backup, before))) {
    return { ...unchanged, after: backup, action: 'restore' }
  }
  const { newFile, madeDirectories } = found.origin
  if (newFile && after === '') return { ...unchanged, after: undefined, action: 'delete', madeDirectories }
  const kept = `others have changed it since; the file before swarmirror is kept as ${basename(backupOf(target))}`
  return { ...unchanged, after, action: 'take-out', notes: backup === undefined ? [] : [kept] }
}

/** Whether writing our block into the backup gives the file as it is: then nobody has changed it since. */
function reproduces(backup: string, current: string): boolean {
  const block = findBlock(current)
  const url = block?.lines.map((line) => /^\[host\.(".*")\]$/.exec(line)?.[1]).find((name) => name !== undefined)
  if (block === undefined || url === undefined) return false
  try {
    return putIn(backup, block, { url: JSON.parse(url) as string, capabilities: [] }) === current
  } catch (error) {
    // Another file altogether, in which the block has no place.
    if (error instanceof TomlError) return false
    throw error
  }
}
