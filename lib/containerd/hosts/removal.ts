import { basename, join } from 'node:path'
import { TomlError } from '../../toml/toml.ts'
import { findBlock, mentionsBlock } from './block.ts'
import { backupOf, type Change, collect, type Plan, readText, refuseReadOnly, targetOf, unchanged } from './change.ts'
import { directoriesOf, HOSTS_FILE } from './directory.ts'
import { putIn, takeOut } from './edit.ts'
import type { HostsFiles } from './files.ts'
import { HostsError } from './hosts-error.ts'

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

async function planRemoval(path: string, files: HostsFiles): Promise<Change> {
  const target = await targetOf(path, files)
  const before = await readText(target, files)
  const found = before === undefined || !mentionsBlock(before) ? undefined : findBlock(before)
  if (before === undefined || found === undefined) return unchanged(path, target, before)
  const after = takeOut(before) ?? ''
  await refuseReadOnly(target, files)
  const change = { path, target, before, original: false, madeDirectories: 0, notes: [] }
  const backup = await readText(backupOf(target), files)
  if (backup !== undefined && (backup === after || reproduces(backup, before))) {
    return { ...change, after: backup, action: 'restore' }
  }
  const { newFile, madeDirectories } = found.origin
  if (newFile && after === '') return { ...change, after: undefined, action: 'delete', madeDirectories }
  const notes =
    backup === undefined ? [] : [`changed by others since; the file before it is kept as ${basename(backupOf(target))}`]
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
