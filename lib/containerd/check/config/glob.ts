import { posix } from 'node:path'
import type { HostsReader } from '../../hosts/files.ts'

/** Reads containerd's configuration. Returns `undefined` for what is not there, and throws what the file system refuses. */
export type ConfigReader = Pick<HostsReader, 'read' | 'list'>

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
