import { readdir, stat } from 'node:fs/promises'
import { HOSTS_FILES, type HostsReader, readRegularFile } from '../hosts/files.ts'
import type { FileReader } from './config/files.ts'
import { isProbeDirectory } from './probe-image.ts'

/** Readers of the host's files that remember what they were asked for, so that it can be watched. */
export interface LookedFiles {
  readonly config: FileReader
  readonly hosts: HostsReader
  /** Every path that was read or listed, whether it is there or not. */
  readonly paths: ReadonlySet<string>
}

export function createLookedFiles(): LookedFiles {
  const paths = new Set<string>()
  const noted = <T>(path: string, read: (path: string) => Promise<T>): Promise<T> => {
    paths.add(path)
    return read(path)
  }
  return {
    paths,
    config: {
      read: (path) => noted(path, async (path) => (await readRegularFile(path)).toString('utf8')),
      list: (path) => noted(path, (path) => readdir(path)),
    },
    hosts: {
      read: (path) => noted(path, HOSTS_FILES.read),
      real: (path) => noted(path, HOSTS_FILES.real),
      list: (path) => noted(path, HOSTS_FILES.list),
    },
  }
}

/**
 * What the paths are like, such that another answer means that one of them has changed. A file is told by its times and
 * identity, a directory by its names: its times also change with what comes and goes in it for a moment.
 */
export async function signatureOf(paths: Iterable<string>): Promise<string> {
  const parts: string[] = []
  for (const path of [...paths].sort()) parts.push(`${path} ${await signatureOfOne(path)}`)
  return parts.join('\n')
}

async function signatureOfOne(path: string): Promise<string> {
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
