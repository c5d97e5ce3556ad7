import { join } from 'node:path'
import { OciError } from '../../oci/error.ts'
import { parseRegistry } from '../../oci/reference.ts'
import type { Settings } from '../../settings/settings.ts'
import { type Dialect, dialectOf } from '../dialect.ts'
import { isProbeRegistry } from '../probe-name.ts'
import { leadsTo } from './endpoint.ts'
import { type HostsReader, isRefusal } from './files.ts'
import type { HostsCheck } from './mirror-entry.ts'
import { type HostEntry, type HostsReading, readHosts } from './reading.ts'

/** The directory whose hosts.toml counts for every registry without a directory of its own. */
export const DEFAULT_NAMESPACE = '_default'

export const HOSTS_FILE = 'hosts.toml'

/**
 * The text of a directory's hosts.toml, with replacements for what is not UTF-8; empty if there is none.
 *
 * @throws what the file system refuses, except because it does not exist
 */
export async function textIn(directory: string, files: HostsReader): Promise<string> {
  return (await files.read(join(directory, HOSTS_FILE)))?.toString('utf8') ?? ''
}

/** The directories where containerd looks for a single registry. Only the first one that exists counts. */
export function directoriesFor(registry: string, certsDir: string): string[] {
  const colon = registry.lastIndexOf(':')
  const forms = colon > 0 ? [`${registry.slice(0, colon)}_${registry.slice(colon + 1)}_`, registry] : [registry]
  return forms.map((name) => join(certsDir, name))
}

/**
 * The registries that have their own directory, in order: without those of probes, which come and go, and names that no registry can
 * have, such as that of a directory's copy, because containerd never looks there.
 */
export async function registriesIn(certsDir: string, files: HostsReader): Promise<string[]> {
  const listed = (await files.list(certsDir)) ?? []
  const registries = listed
    .filter(({ name, directory }) => directory && !isProbeRegistry(name))
    .map(({ name }) => name.replace(/_(\d{1,5})_$/, ':$1'))
  return [...new Set(registries.filter(isRegistry))].sort()
}

/**
 * The registries whose hosts.toml to write: `_default` is for all that have no directory of their own.
 *
 * @returns as `absent` those of `--also` without a directory, for which `_default` counts
 */
export async function registriesToWrite(
  { 'certs-dir': certsDir, registries, also }: Pick<Settings, 'certs-dir' | 'registries' | 'also'>,
  files: HostsReader,
): Promise<{ readonly registries: readonly string[]; readonly absent: readonly string[] }> {
  if (registries !== undefined) return { registries: [...registries], absent: [] }
  if (also === undefined) return { registries: [DEFAULT_NAMESPACE], absent: [] }
  const own = new Set(await registriesIn(certsDir, files))
  const wanted = also === 'all' ? own : also
  return { registries: [DEFAULT_NAMESPACE, ...own.intersection(wanted)], absent: [...wanted.difference(own)] }
}

function isRegistry(name: string): boolean {
  try {
    return parseRegistry(name) === name
  } catch (error) {
    if (error instanceof OciError) return false
    throw error
  }
}

/** A directory, and what its hosts.toml means to containerd. */
type SeenDirectory = { readonly directory: string } & (
  | HostsReading
  | { readonly kind: 'absent' }
  /** Something else than a file is in the place of its hosts.toml. */
  | { readonly kind: 'no file' }
  | { readonly kind: 'unreadable'; readonly reason: string }
)

/** The directory that counts for a registry. */
export type HostsView = SeenDirectory & {
  readonly check: HostsCheck
  readonly registry: string
  readonly file: string
  /** The host that leads containerd to the mirror, wherever it is in the file. */
  readonly own?: HostEntry | undefined
}

/** Reads the hosts.toml that counts for a registry like containerd. */
export async function viewOf(registry: string, check: HostsCheck, files: HostsReader): Promise<HostsView> {
  const found = await seenFor(registry, check.certsDir, dialectOf(check.version), files)
  const own = found.kind === 'hosts' ? found.hosts.find((host) => leadsTo(host, check.mirror.url)) : undefined
  return { ...found, check, registry, file: join(found.directory, HOSTS_FILE), own }
}

/** Reads the hosts.toml of every registry with its own directory. */
export async function ownViews(check: HostsCheck, files: HostsReader): Promise<HostsView[]> {
  const { certsDir } = check
  try {
    const registries = await registriesIn(certsDir, files)
    return await Promise.all(registries.map((registry) => viewOf(registry, check, files)))
  } catch (error) {
    if (!isRefusal(error)) throw error
    const unreadable = { directory: certsDir, file: certsDir, kind: 'unreadable', reason: error.message } as const
    return [{ ...unreadable, check, registry: DEFAULT_NAMESPACE }]
  }
}

/** Whether containerd does not ask the mirror for a registry with a directory. */
export function isWithoutMirror({ kind, own }: HostsView): boolean {
  return kind === 'empty' || (kind === 'hosts' && own === undefined)
}

/** Looks at the directory that counts for a registry, as a containerd of that dialect. */
export async function seenFor(
  registry: string,
  certsDir: string,
  dialect: Dialect,
  files: HostsReader,
): Promise<SeenDirectory> {
  for (const directory of [...directoriesFor(registry, certsDir), join(certsDir, DEFAULT_NAMESPACE)]) {
    try {
      const text = await textIn(directory, files)
      if ((await files.real(directory)) !== undefined) return { directory, ...readHosts(text, dialect) }
    } catch (error) {
      if (!isRefusal(error)) throw error
      // containerd cannot read a directory or a pipe either.
      if (error.code === 'EINVAL') return { directory, kind: 'no file' }
      return { directory, kind: 'unreadable', reason: error.message }
    }
  }
  return { directory: join(certsDir, registry), kind: 'absent' }
}
