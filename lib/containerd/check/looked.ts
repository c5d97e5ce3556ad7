import { readdirSync, statSync } from 'node:fs'
import type { HostsReader } from '../hosts/files.ts'
import { isProbeDirectory } from '../probe-name.ts'

/** Every path that was read or listed, whether it is there or not, with its signature from before the first look at it. */
export type Looked = ReadonlyMap<string, string>

/** A reader that remembers the paths that it was asked for, so that they can be watched. */
export function rememberingReader(reader: HostsReader): { readonly reader: HostsReader; readonly looked: Looked } {
  const looked = new Map<string, string>()
  /** The signature first: what changes while it is read, or while the rest is checked, is a change. */
  const noted =
    <T>(read: (path: string) => Promise<T>) =>
    async (path: string): Promise<T> => {
      const signature = signatureOf(path)
      if (!looked.has(path)) looked.set(path, signature)
      return await read(path)
    }
  const { read, list, real, isLink } = reader
  return { looked, reader: { read: noted(read), list: noted(list), real: noted(real), isLink: noted(isLink) } }
}

/** What the same paths are like now, if any of them has changed since that look. */
export function changeSince(looked: Looked): Looked | undefined {
  const now = new Map<string, string>()
  for (const path of looked.keys()) now.set(path, signatureOf(path))
  return [...now].some(([path, signature]) => looked.get(path) !== signature) ? now : undefined
}

/**
 * What a path is like: another answer means that it has changed. A file is known by its times and identity, a directory by its
 * names alone, since its times also change with what comes and goes in it for a moment.
 *
 * Not by promises: some dozen paths take 0.2 ms in all every few seconds, and by promises each of them wakes up two threads.
 */
function signatureOf(path: string): string {
  try {
    const found = statSync(path, { throwIfNoEntry: false })
    if (found === undefined) return 'ENOENT'
    if (!found.isDirectory()) return `${found.ino} ${found.size} ${found.mtimeMs} ${found.ctimeMs}`
    // Probes come and go, those of this process and of others.
    const names = readdirSync(path).filter((name) => !isProbeDirectory(name))
    return names.sort().join('/')
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error)
  }
}
