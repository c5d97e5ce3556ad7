import { posix } from 'node:path'
import type { ConfigFiles } from '../../../../lib/containerd/check/config/load.ts'

const listed = (names: Iterable<string>) => [...names].map((name) => ({ name, directory: false }))

/** Files in memory, by absolute path; reading a file that is an Error throws it. */
export function memoryFiles(
  texts: Readonly<Record<string, string | Error>>,
  path = '/etc/containerd/config.toml',
): ConfigFiles {
  return {
    path,
    read: async (wanted) => {
      const text = texts[wanted]
      if (text instanceof Error) throw text
      return text === undefined ? undefined : Buffer.from(text)
    },
    list: async (directory) => {
      const inside = Object.keys(texts).filter((name) => name.startsWith(directory === '/' ? '/' : `${directory}/`))
      if (inside.length === 0) return undefined
      return listed(new Set(inside.map((name) => posix.relative(directory, name).split('/')[0] ?? '')))
    },
  }
}

/** The same files with one of them changed, or added. */
export function withFile(files: ConfigFiles, path: string, text: string): ConfigFiles {
  return {
    path: files.path,
    read: async (wanted) => (wanted === path ? Buffer.from(text) : await files.read(wanted)),
    list: async (directory) => {
      const names = ((await files.list(directory)) ?? []).map(({ name }) => name)
      return listed(directory === posix.dirname(path) ? new Set([...names, posix.basename(path)]) : names)
    },
  }
}

/** The text of an existing file. */
export async function textOf(files: ConfigFiles, path = files.path): Promise<string> {
  return String((await files.read(path)) ?? '')
}
