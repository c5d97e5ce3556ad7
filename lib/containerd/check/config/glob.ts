import { posix } from 'node:path'
import type { HostsReader } from '../../hosts/files.ts'

/** How containerd's configuration is looked at. What is not there is `undefined`; what the file system refuses is thrown. */
export type ConfigReader = Pick<HostsReader, 'read' | 'list'>

/**
 * The paths that match, where `*` is any text within a name and `?` any character: by name within a directory, in the order in
 * which containerd imports. A directory that cannot be listed matches nothing, as there. The classes and escapes that Go knows
 * as well stand for themselves: nobody imports by them.
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
    // By code units, as Go compares bytes: the same for what file names are made of in practice, and in every locale.
    found.push(...names.sort().map((name) => posix.join(parent, name)))
  }
  return found
}
