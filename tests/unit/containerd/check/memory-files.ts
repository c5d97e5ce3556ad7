import { posix } from 'node:path'
import type { ConfigFiles } from '../../../../lib/containerd/check/config-view.ts'

/** Files in memory, by absolute path; a file that is an Error throws it when it is read. */
export function memoryFiles(
  texts: Readonly<Record<string, string | Error>>,
  path = '/etc/containerd/config.toml',
): ConfigFiles {
  const failure = (code: string, of: string) => Object.assign(new Error(`${code}: ${of}`), { code })
  return {
    path,
    read: async (wanted) => {
      const text = texts[wanted]
      if (text === undefined) throw failure('ENOENT', wanted)
      if (text instanceof Error) throw text
      return text
    },
    list: async (directory) => {
      const inside = Object.keys(texts).filter((name) => name.startsWith(directory === '/' ? '/' : `${directory}/`))
      if (inside.length === 0) throw failure('ENOENT', directory)
      return [...new Set(inside.map((name) => posix.relative(directory, name).split('/')[0] ?? ''))]
    },
  }
}

/** The same files with one of them changed, or added. */
export function withFile(files: ConfigFiles, path: string, text: string): ConfigFiles {
  return {
    path: files.path,
    read: (wanted) => (wanted === path ? Promise.resolve(text) : files.read(wanted)),
    list: async (directory) => {
      const names = await files.list(directory).catch(() => [])
      return directory === posix.dirname(path) ? [...new Set([...names, posix.basename(path)])] : names
    },
  }
}
