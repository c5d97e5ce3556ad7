import { join } from 'node:path'
import { OciError } from '../../oci/error.ts'
import { parseRegistry } from '../../oci/reference.ts'
import { isProbeDirectory } from '../probe-name.ts'
import type { MirrorEntry } from './block.ts'
import { DEFAULT_NAMESPACE, HOSTS_FILE, registryOfDirectory } from './directory.ts'
import { asksAt } from './edit.ts'
import { type HostsReader, isRefusal } from './files.ts'
import { type HostEntry, type HostsReading, readHosts } from './reading.ts'

export interface HostsCheck {
  /** The directory as this process sees it. */
  readonly certsDir: string
  /** The registries that are mirrored; all if missing. */
  readonly registries: readonly string[] | undefined
  readonly mirror: MirrorEntry
  /** As containerd tells it, if it could be asked. */
  readonly version: string | undefined
  /** Where containerd tells its version. */
  readonly socket: string
  /** What starts this program, in a shell. */
  readonly program: string
  /** Whether this process sees all files as containerd does, and not only those in the directory. */
  readonly seesAll?: boolean
}

/** What was found in one directory. */
export type Looked =
  | { readonly kind: 'absent' }
  /** `inItself`: not only for this process, so that containerd cannot read it either. */
  | { readonly kind: 'unreadable'; readonly reason: string; readonly inItself: boolean }
  | Exclude<HostsReading, { kind: 'hosts' }>
  | (Extract<HostsReading, { kind: 'hosts' }> & { readonly text: string })

/** Looks at the hosts.toml of a directory, as containerd of that version reads it. */
export async function look(directory: string, version: string | undefined, files: HostsReader): Promise<Looked> {
  try {
    const bytes = await files.read(join(directory, HOSTS_FILE))
    if (bytes === undefined) return { kind: (await files.real(directory)) === undefined ? 'absent' : 'empty' }
    const text = bytes.toString('utf8')
    const reading = readHosts(text, version)
    return reading.kind === 'hosts' ? { ...reading, text } : reading
  } catch (error) {
    if (!isRefusal(error)) throw error
    return { kind: 'unreadable', reason: error.message, inItself: error.code === 'EINVAL' }
  }
}

/** Whether containerd asks the mirror, in whatever order. */
export function asksMirror(looked: Looked, mirror: MirrorEntry): boolean {
  return looked.kind === 'hosts' && looked.hosts.some((host) => leadsTo(host, mirror.url))
}

/** Whether containerd comes to the URL by a host of a file, be it by the other name of loopback. */
export function leadsTo(host: Pick<HostEntry, 'url'>, url: string): boolean {
  const named = url.replace(/\/\/(127\.0\.0\.1|localhost):/, (_, name) => `//${OTHER_NAME[name]}:`)
  return asksAt(host, url) || asksAt(host, named)
}

const OTHER_NAME: Readonly<Record<string, string>> = { '127.0.0.1': 'localhost', localhost: '127.0.0.1' }

/** The directories of single registries for which containerd does not ask the mirror at all. */
export async function directoriesWithoutMirror(check: HostsCheck, files: HostsReader): Promise<string[]> {
  const without: string[] = []
  for (const directory of await ownDirectories(check.certsDir, files)) {
    if (isWithout(await look(directory, check.version, files), check.mirror)) without.push(directory)
  }
  return without
}

export function isWithout(looked: Looked, mirror: MirrorEntry): boolean {
  return looked.kind === 'empty' || (looked.kind === 'hosts' && !asksMirror(looked, mirror))
}

/**
 * The directories of single registries, in the order of their names; not those of probes, which come and go, nor what no
 * registry can be called, such as a copy of a directory: containerd never looks there.
 */
export async function ownDirectories(certsDir: string, files: HostsReader): Promise<string[]> {
  const listed = (await files.list(certsDir)) ?? []
  return listed
    .filter(({ name, directory }) => directory && name !== DEFAULT_NAMESPACE && !name.startsWith('.'))
    .filter(({ name }) => !isProbeDirectory(name) && isRegistry(registryOfDirectory(name)))
    .map(({ name }) => join(certsDir, name))
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
