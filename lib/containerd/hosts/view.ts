import { basename, join } from 'node:path'
import { dialectOf } from '../dialect.ts'
import { type CertificateProblem, certificateProblems } from './certificates.ts'
import { asksAt } from './endpoint.ts'
import { type HostsReader, isRefusal } from './files.ts'
import { DEFAULT_NAMESPACE, directoriesFor, HOSTS_FILE, lookAt, ownDirectories, registryOfDirectory } from './look.ts'
import type { HostsCommandContext } from './mirror-entry.ts'
import { type HostEntry, type HostsReading, readHosts } from './reading.ts'

export interface HostsCheck extends HostsCommandContext {
  /** The registries that are mirrored; all if missing. */
  readonly registries: readonly string[] | undefined
  /** As containerd tells it, if it could be asked. */
  readonly version: string | undefined
  /** Whether this process sees all files as containerd does, and not only those in the certs directory. */
  readonly seesAll?: boolean
}

/** A directory and its hosts.toml, as containerd reads it. */
type SeenDirectory = { readonly directory: string } & (
  | (HostsReading & { readonly real: string; readonly text: string })
  | { readonly kind: 'absent' }
  /** Something else is in the place of its hosts.toml. */
  | { readonly kind: 'no file' }
  | { readonly kind: 'unreadable'; readonly reason: string }
)

/** The directory that counts for a registry. */
export type HostsView = SeenDirectory & {
  readonly check: HostsCheck
  readonly registry: string
  readonly file: string
  /** The host by which containerd comes to the mirror, whatever its place. */
  readonly own?: HostEntry | undefined
  readonly certificates: readonly CertificateProblem[]
  /** Other directories for the mirror, into which containerd does not look because of this one. */
  readonly shadowed: readonly string[]
}

/** Looks at the hosts.toml that counts for a registry. */
export async function viewOf(registry: string, check: HostsCheck, files: HostsReader): Promise<HostsView> {
  const seen: SeenDirectory[] = []
  for (const directory of directoriesFor(registry, check.certsDir)) seen.push(await see(directory, check, files))
  const found = seen.filter(({ kind }) => kind !== 'absent')
  const [first = { directory: join(check.certsDir, registry), kind: 'absent' as const }, ...others] = found
  const shadowed = others.filter(
    (other) =>
      basename(other.directory) !== DEFAULT_NAMESPACE &&
      (other.kind !== 'hosts' || ownIn(other, check) !== undefined) &&
      // A link from one name to the other is one directory.
      !('real' in first && 'real' in other && first.real === other.real),
  )
  return {
    ...first,
    ...{ check, registry, file: join(first.directory, HOSTS_FILE), own: ownIn(first, check) },
    certificates: first.kind === 'hosts' ? await certificateProblems(first, check, files) : [],
    shadowed: shadowed.map(({ directory }) => directory),
  }
}

/** Looks at the hosts.toml of every registry that has a directory of its own. */
export async function ownViews(check: HostsCheck, files: HostsReader): Promise<HostsView[]> {
  try {
    const registries = new Set((await ownDirectories(check.certsDir, files)).map(registryOfDirectory))
    return await Promise.all([...registries].map((registry) => viewOf(registry, check, files)))
  } catch (error) {
    if (!isRefusal(error)) throw error
    const { certsDir } = check
    const unreadable = { directory: certsDir, file: certsDir, kind: 'unreadable', reason: error.message } as const
    return [{ ...unreadable, check, registry: DEFAULT_NAMESPACE, certificates: [], shadowed: [] }]
  }
}

/** Whether containerd does not ask the mirror for a registry that has a directory. */
export function isWithoutMirror({ kind, own }: HostsView): boolean {
  return kind === 'empty' || (kind === 'hosts' && own === undefined)
}

async function see(directory: string, check: HostsCheck, files: HostsReader): Promise<SeenDirectory> {
  try {
    const { real, text = '' } = await lookAt(directory, files)
    if (real === undefined) return { directory, kind: 'absent' }
    return { directory, real, text, ...readHosts(text, dialectOf(check.version)) }
  } catch (error) {
    if (!isRefusal(error)) throw error
    // What is no file for this process is none for containerd.
    return error.code === 'EINVAL'
      ? { directory, kind: 'no file' }
      : { directory, kind: 'unreadable', reason: error.message }
  }
}

/** The host by which containerd comes to the mirror, even by the other name of loopback. */
function ownIn(seen: SeenDirectory, { mirror: { url } }: HostsCheck): HostEntry | undefined {
  if (seen.kind !== 'hosts') return undefined
  const named = url.replace(/\/\/(127\.0\.0\.1|localhost):/, (_, name) => `//${OTHER_NAME[name]}:`)
  return seen.hosts.find((host) => asksAt(host, url) || asksAt(host, named))
}

const OTHER_NAME: Readonly<Record<string, string>> = { '127.0.0.1': 'localhost', localhost: '127.0.0.1' }
