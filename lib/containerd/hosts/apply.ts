import { randomBytes } from 'node:crypto'
import { dirname, join } from 'node:path'
import { HostsError } from './endpoint.ts'
import type { HostsFiles } from './files.ts'
import type { Change } from './plan.ts'

/** Begins the name of a file that is being written. containerd looks for none of that name. */
const STAGED = '.swarmirror-'

/**
 * Makes a change. The file is replaced by a rename, so that containerd and a crash see the old one or the new one.
 *
 * @throws {HostsError} if somebody changed the file meanwhile; what the file system refuses
 */
export async function applyChange({ path, target, before, after, action }: Change, files: HostsFiles): Promise<void> {
  if (action === 'keep') return
  if ((await files.read(target))?.toString('utf8') !== before)
    throw new HostsError(`${path}: somebody changed it meanwhile`)
  const directory = dirname(target)
  await files.makeDirectory(directory)
  // What a killed write left.
  for (const { name } of (await files.list(directory)) ?? [])
    if (name.startsWith(STAGED)) await files.unlink(join(directory, name))
  if (after === undefined) {
    await files.unlink(target)
    // An empty directory would keep the registry from `_default`.
    await files.removeEmptyDirectory(dirname(path))
    return
  }
  const staged = join(directory, `${STAGED}${randomBytes(6).toString('hex')}`)
  try {
    await files.create(staged, Buffer.from(after, 'utf8'), before === undefined ? undefined : target)
    await files.rename(staged, target)
  } catch (error) {
    // Whether or not this succeeds, the first error says what is wrong, and the next write removes what is left.
    await files.unlink(staged).catch(() => undefined)
    throw error
  }
}
