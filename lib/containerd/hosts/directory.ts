import { join } from 'node:path'
import type { HostsReader } from './files.ts'

/** The directory whose hosts.toml counts for every registry that has none of its own. */
export const DEFAULT_NAMESPACE = '_default'

export const HOSTS_FILE = 'hosts.toml'

/**
 * The names under which containerd looks for a registry's directory. The first that is there counts and nothing else,
 * not even the hosts.toml of another one if it has none.
 */
export function directoryNames(registry: string): string[] {
  if (registry === DEFAULT_NAMESPACE) return [DEFAULT_NAMESPACE]
  const colon = registry.lastIndexOf(':')
  const forms = colon > 0 ? [`${registry.slice(0, colon)}_${registry.slice(colon + 1)}_`, registry] : [registry]
  return [...forms, DEFAULT_NAMESPACE]
}

/** The registry that a directory of that name is for. */
export function registryOfDirectory(name: string): string {
  return name.replace(/_(\d{1,5})_$/, ':$1')
}

/** The directories that are there for a registry, the one that counts first; without `_default`, unless asked for that. */
export async function directoriesOf(files: HostsReader, certsDir: string, registry: string): Promise<string[]> {
  const found: string[] = []
  for (const name of directoryNames(registry)) {
    if (name === DEFAULT_NAMESPACE && registry !== DEFAULT_NAMESPACE) continue
    if ((await files.real(join(certsDir, name))) !== undefined) found.push(join(certsDir, name))
  }
  return found
}

/** Docker's way to give certificates: by the names of files. It counts only where there is no hosts.toml. */
export interface DockerCertificates {
  /** Names ending in `.crt`. */
  readonly ca: readonly string[]
  /** Names ending in `.cert`, each with the name of its key if that is there. */
  readonly client: readonly (readonly [certificate: string, key?: string])[]
}

export async function dockerCertificates(files: HostsReader, directory: string): Promise<DockerCertificates> {
  const names = ((await files.list(directory)) ?? []).filter((entry) => !entry.directory).map(({ name }) => name)
  names.sort()
  const client = names
    .filter((name) => name.endsWith('.cert'))
    .map((name): [string, string?] => {
      const key = name.replace(/cert$/, 'key')
      return names.includes(key) ? [name, key] : [name]
    })
  return { ca: names.filter((name) => name.endsWith('.crt')), client }
}
