import { fileURLToPath } from 'node:url'
import type { ConfigFiles } from '../../../../lib/containerd/check/config/load.ts'
import { HOSTS_FILES } from '../../../../lib/containerd/hosts/files.ts'

/** The files of a node in the folder fixtures, by their paths on the node. */
export function fixtureFiles(node: string, configFile: string): ConfigFiles {
  const root = fileURLToPath(new URL(`./fixtures/${node}`, import.meta.url))
  return {
    path: configFile,
    read: (path) => HOSTS_FILES.read(`${root}${path}`),
    list: (directory) => HOSTS_FILES.list(`${root}${directory}`),
  }
}
