import { join } from 'node:path'
import { OciError } from '../../oci/error.ts'
import { parseRegistry } from '../../oci/reference.ts'
import { isProbeDirectory } from '../probe-name.ts'
import type { HostsReader } from './files.ts'

/** The directory whose hosts.toml counts for every registry without a directory of its own. */
export const DEFAULT_NAMESPACE = '_default'

export const HOSTS_FILE = 'hosts.toml'

/** A directory for a registry and its hosts.toml, as they are. */
export interface HostsDirectory {
  /** Where it is, through links; `undefined` if it is not there. */
  readonly real: string | undefined
  /** The hosts.toml as containerd opens it. */
  readonly file: string
  /** The hosts.toml itself, where links lead to it; `undefined` for a link that leads to nothing. */
  readonly target: string | undefined
  /** `undefined` if there is no hosts.toml. */
  readonly text: string | undefined
  /** Whether all of it is UTF-8; what is not is replaced in `text`. */
  readonly utf8: boolean
}

/**
 * Looks at a directory and its hosts.toml.
 *
 * @throws what the file system refuses, but for what is not there
 */
export async function lookAt(path: string, files: HostsReader): Promise<HostsDirectory> {
  const file = join(path, HOSTS_FILE)
  const bytes = await files.read(file)
  const real = await files.real(path)
  const target = (await files.isLink(file)) ? await files.real(file) : join(real ?? path, HOSTS_FILE)
  const text = bytes?.toString('utf8')
  const utf8 = bytes?.equals(Buffer.from(text ?? '', 'utf8')) ?? true
  return { real, file, target, text, utf8 }
}

/**
 * The paths where containerd looks for a registry's directory. The first that is there counts and nothing else, not even
 * another's hosts.toml if it has none.
 */
export function directoriesFor(registry: string, certsDir: string): string[] {
  const own = ownDirectoriesFor(registry, certsDir)
  return registry === DEFAULT_NAMESPACE ? own : [...own, join(certsDir, DEFAULT_NAMESPACE)]
}

/** The same without that of `_default`. */
export function ownDirectoriesFor(registry: string, certsDir: string): string[] {
  const colon = registry.lastIndexOf(':')
  const forms = colon > 0 ? [`${registry.slice(0, colon)}_${registry.slice(colon + 1)}_`, registry] : [registry]
  return forms.map((name) => join(certsDir, name))
}

/** The registry that a directory of that name is for. */
export function registryOfDirectory(name: string): string {
  return name.replace(/_(\d{1,5})_$/, ':$1')
}

/**
 * Names of the directories of single registries, in order: not those of probes, which come and go, nor those that containerd
 * never looks into because no registry has such a name, such as a copy of a directory.
 */
export async function ownDirectories(certsDir: string, files: HostsReader): Promise<string[]> {
  const listed = (await files.list(certsDir)) ?? []
  return listed
    .filter(({ name, directory }) => directory && name !== DEFAULT_NAMESPACE && !name.startsWith('.'))
    .map(({ name }) => name)
    .filter((name) => !isProbeDirectory(name) && isRegistry(registryOfDirectory(name)))
    .sort()
}

function isRegistry(name: string): boolean {
  try {
    return parseRegistry(name) === name
  } catch (error) {
    if (error instanceof OciError) return false
    throw error
  }
}
