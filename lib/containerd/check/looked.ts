import { readdir, stat } from 'node:fs/promises'
import { HOSTS_FILES, type HostsReader, readRegularFile } from '../hosts/files.ts'
import { isProbeDirectory } from '../probe-name.ts'
import type { FileReader } from './config/glob.ts'

/** Every path that was read or listed, whether it is there or not, with its signature from before it was first looked at. */
export type Looked = ReadonlyMap<string, string>

/** Readers of the host's files that remember what they were asked for, so that it can be watched. */
export interface LookedFiles {
  readonly config: FileReader
  readonly hosts: HostsReader
  readonly looked: Looked
}

/** containerd's files, and what else the machine has. */
export const CONFIG_FILES: FileReader = {
  read: async (path) => (await readRegularFile(path)).toString('utf8'),
  list: (path) => readdir(path),
}

export function createLookedFiles(): LookedFiles {
  const looked = new Map<string, string>()
  /** The signature first: what changes while it is read, or while the rest is checked, is a change. */
  const noted = async <T>(path: string, read: (path: string) => Promise<T>): Promise<T> => {
    const signature = await signatureOf(path)
    if (!looked.has(path)) looked.set(path, signature)
    return await read(path)
  }
  return {
    looked,
    config: {
      read: (path) => noted(path, CONFIG_FILES.read),
      list: (path) => noted(path, CONFIG_FILES.list),
    },
    hosts: {
      read: (path) => noted(path, HOSTS_FILES.read),
      real: (path) => noted(path, HOSTS_FILES.real),
      list: (path) => noted(path, HOSTS_FILES.list),
      isLink: (path) => noted(path, HOSTS_FILES.isLink),
    },
  }
}

/** What the same paths are like now. */
export async function lookAgain(looked: Looked): Promise<Looked> {
  const now = new Map<string, string>()
  for (const path of looked.keys()) now.set(path, await signatureOf(path))
  return now
}

/** Whether something has changed between two looks at the same paths. */
export function differs(before: Looked, after: Looked): boolean {
  return [...before].some(([path, signature]) => after.get(path) !== signature)
}

/**
 * What a path is like, such that another answer means that it has changed. A file is told by its times and identity, a
 * directory by its names: its times also change with what comes and goes in it for a moment.
 */
async function signatureOf(path: string): Promise<string> {
  try {
    const found = await stat(path)
    if (!found.isDirectory()) return `${found.ino} ${found.size} ${found.mtimeMs} ${found.ctimeMs}`
    // Probes come and go, those of this process and of others.
    return (await readdir(path))
      .filter((name) => !isProbeDirectory(name))
      .sort()
      .join('/')
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error)
  }
}
