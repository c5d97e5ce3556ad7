import { readdir, readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import type { ConfigFiles } from '../../../../lib/containerd/check/config-view.ts'

/** The files of a node in the folder fixtures, by the paths that they have on the node. */
export function fixtureFiles(node: string, configFile: string): ConfigFiles {
  const root = fileURLToPath(new URL(`./fixtures/${node}`, import.meta.url))
  return {
    path: configFile,
    read: (path) => readFile(`${root}${path}`, 'utf8'),
    list: (directory) => readdir(`${root}${directory}`),
  }
}
