import { join, resolve } from 'node:path'
import { DEFAULT_REGISTRY } from '../../oci/reference.ts'
import { listOf, parseToml, type TomlEntry, type TomlTable, tableAt } from '../../toml/toml.ts'
import type { UpstreamHost } from '../../upstream/probe.ts'
import type { UpstreamPlace } from '../../upstream/upstreams.ts'
import { NEWEST } from '../dialect.ts'
import { leadsTo } from './endpoint.ts'
import { type HostsReader, isRefusal } from './files.ts'
import { DEFAULT_NAMESPACE, directoriesFor, lookAt } from './look.ts'
import { readHosts } from './reading.ts'

/**
 * The hosts that containerd asks for a registry after the mirror: the rest of its hosts.toml, then `server` or else the registry
 * itself. The registry is known if it has its own directory.
 *
 * @param mirrorUrl where containerd reaches the mirror
 * @throws what the file system refuses, except a lack of permission
 */
export async function upstreamPlaceOf(
  registry: string,
  { certsDir, mirrorUrl }: { readonly certsDir: string; readonly mirrorUrl: string },
  files: HostsReader,
): Promise<UpstreamPlace> {
  const itself = { url: addressOfRegistry(registry), isNamed: false }
  const own = directoriesFor(registry, certsDir)
  for (const directory of [...own, join(certsDir, DEFAULT_NAMESPACE)]) {
    try {
      const { real, text = '' } = await lookAt(directory, files)
      if (real === undefined) continue
      const isKnown = own.includes(directory)
      const hosts = await hostsIn(text, directory, { ...itself, isNamed: isKnown }, mirrorUrl, files)
      return { hosts, isKnown }
    } catch (error) {
      if (!isRefusal(error)) throw error
      // containerd may read what this process may not. Most likely it then asks the registry.
      return { hosts: [itself], isKnown: own.includes(directory) }
    }
  }
  return { hosts: [itself], isKnown: false }
}

/** Where containerd asks for a registry without a hosts.toml. */
function addressOfRegistry(registry: string): string {
  return `${isLocal(registry) ? 'http' : 'https'}://${hostOfRegistry(registry)}/v2`
}

function hostOfRegistry(registry: string): string {
  return registry === DEFAULT_REGISTRY ? 'registry-1.docker.io' : registry
}

async function hostsIn(
  text: string,
  directory: string,
  itself: UpstreamHost,
  mirrorUrl: string,
  files: HostsReader,
): Promise<UpstreamHost[]> {
  const reading = readHosts(text, NEWEST)
  if (reading.kind !== 'hosts') return [itself]
  const { hosts, server } = reading
  const root = parseToml(text)
  const mirror = hosts.findIndex((host) => leadsTo(host, mirrorUrl))
  // containerd has already asked the hosts before the mirror.
  const after = hosts
    .slice(mirror + 1)
    .filter(({ capabilities }) => ['pull', 'resolve'].every((one) => capabilities.includes(one)))
  return await Promise.all([
    ...after.map(({ name, url }) => hostOf(url, tableAt(root, 'host', name), directory, true, files)),
    hostOf(server.url || itself.url, root, directory, itself.isNamed || server.url !== '', files),
  ])
}

/** A host with the certificates that its table names, if they exist. */
async function hostOf(url: string, table: TomlTable, directory: string, isNamed: boolean, files: HostsReader) {
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

/** A registry that containerd asks by HTTP. */
function isLocal(registry: string): boolean {
  const host = registry.startsWith('[') ? registry.slice(0, registry.indexOf(']') + 1) : registry.replace(/:\d+$/, '')
  return host === 'localhost' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host)
}

/**
 * Whether a directory has certificates in Docker's way, by the names of files: `*.crt`, and `*.cert` with `*.key`. containerd takes
 * those only where there is no hosts.toml.
 */
export async function hasCertificates(directory: string, files: HostsReader): Promise<boolean> {
  const listed = (await files.list(directory)) ?? []
  return listed.some(({ name, directory }) => !directory && /\.(?:crt|cert)$/.test(name))
}
