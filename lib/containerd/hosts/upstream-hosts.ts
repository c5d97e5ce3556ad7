import { join, resolve } from 'node:path'
import { DEFAULT_REGISTRY } from '../../oci/reference.ts'
import { isLoopback } from '../../platform/address.ts'
import { listOf, type TomlEntry } from '../../toml/toml.ts'
import type { UpstreamHost } from '../../upstream/probe.ts'
import { bare } from '../../upstream/proxy.ts'
import type { UpstreamPlace } from '../../upstream/upstreams.ts'
import { NEWEST } from '../dialect.ts'
import { type Endpoint, leadsTo } from './endpoint.ts'
import { type HostsReader, isRefusal } from './files.ts'
import { DEFAULT_NAMESPACE, seenFor } from './look.ts'

/**
 * The hosts that containerd asks for a registry after the mirror: the rest of its hosts.toml, then `server` or else the registry
 * itself. The registry is known if it has its own directory, even an unreadable one.
 *
 * @param mirrorUrl where containerd reaches the mirror
 */
export async function upstreamPlaceOf(
  registry: string,
  { certsDir, mirrorUrl }: { readonly certsDir: string; readonly mirrorUrl: string },
  files: HostsReader,
): Promise<UpstreamPlace> {
  const seen = await seenFor(registry, certsDir, NEWEST, files)
  const isOwn = seen.kind !== 'absent' && seen.directory !== join(certsDir, DEFAULT_NAMESPACE)
  // If this process may not look into `certsDir`, any name looks like an unreadable directory there.
  const isKnown = isOwn && (await files.real(seen.directory).catch(unlessRefused)) !== undefined
  // containerd may read what this process may not. Most likely it then asks the registry.
  const isRead = seen.kind !== 'unreadable' && seen.kind !== 'no file'
  const itself = { url: addressOfRegistry(registry), isNamed: isKnown && isRead }
  if (seen.kind !== 'hosts') return { hosts: [itself], isKnown }
  const { hosts, server, directory } = seen
  const mirror = hosts.findIndex((host) => leadsTo(host, mirrorUrl))
  // containerd has already asked the hosts before the mirror.
  const after = hosts
    .slice(mirror + 1)
    .filter(({ capabilities }) => ['pull', 'resolve'].every((one) => capabilities.includes(one)))
  return {
    hosts: await Promise.all([
      ...after.map((host) => hostOf(host, true, directory, files)),
      hostOf({ ...server, url: server.url || itself.url }, itself.isNamed || server.url !== '', directory, files),
    ]),
    isKnown,
  }
}

/** Where containerd asks for a registry without a hosts.toml: by HTTP on this machine. */
function addressOfRegistry(registry: string): string {
  const host = registry === DEFAULT_REGISTRY ? 'registry-1.docker.io' : registry
  return `${isLoopback(bare(registry.replace(/:\d+$/, ''))) ? 'http' : 'https'}://${host}/v2`
}

/** A host with the certificates that its table names, if they exist. */
async function hostOf(
  { url, table }: Omit<Endpoint, 'capabilities'>,
  isNamed: boolean,
  directory: string,
  files: HostsReader,
): Promise<UpstreamHost> {
  const read = async (entries: readonly TomlEntry[]) => {
    const paths = entries.flatMap(({ value }) => (typeof value === 'string' ? [resolve(directory, value)] : []))
    const found = await Promise.all(paths.map((path) => files.read(path).catch(unlessRefused)))
    const texts = found.flatMap((bytes) => (bytes === undefined ? [] : [bytes.toString('utf8')]))
    return texts.length === 0 ? undefined : texts
  }
  const isTrusted = table.get('skip_verify')?.value === true
  const pairs = listed(table.get('client')).map(listed)
  return {
    url,
    isNamed,
    ca: isTrusted ? undefined : await read(listed(table.get('ca'))),
    cert: await read(pairs.flatMap(([cert]) => cert ?? [])),
    // A certificate without a key file includes its key.
    key: await read(pairs.flatMap(([cert, key]) => (key?.value ? key : (cert ?? [])))),
  }
}

/** Omits files that this process may not read. */
function unlessRefused(error: unknown): undefined {
  if (!isRefusal(error)) throw error
}

/** The items of a list, or a single value in its place. */
function listed(entry: TomlEntry | undefined): readonly TomlEntry[] {
  return entry === undefined ? [] : (listOf(entry) ?? [entry])
}

/**
 * Whether a directory has certificates in Docker's way, by the names of files: `*.crt`, and `*.cert` with `*.key`. containerd takes
 * those only where there is no hosts.toml.
 */
export async function hasCertificates(directory: string, files: HostsReader): Promise<boolean> {
  const listed = (await files.list(directory)) ?? []
  return listed.some(({ name, directory }) => !directory && /\.(?:crt|cert)$/.test(name))
}
