import { join, resolve } from 'node:path'
import { DEFAULT_REGISTRY } from '../../oci/reference.ts'
import { listOf, parseToml, type TomlEntry, type TomlTable, tableAt } from '../../toml/toml.ts'
import type { UpstreamHost } from '../../upstream/probe.ts'
import type { UpstreamPlace } from '../../upstream/upstreams.ts'
import { NEWEST } from '../dialect.ts'
import { HostsError } from './endpoint.ts'
import { type HostsReader, isRefusal } from './files.ts'
import { DEFAULT_NAMESPACE, directoriesFor, leadsTo, lookAt } from './look.ts'
import { quote } from './mirror-entry.ts'
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
    dialTimeout: millisecondsOf(table.get('dial_timeout')?.value),
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

const UNITS: Readonly<Record<string, number>> = { h: 3_600_000, m: 60_000, s: 1_000, ms: 1 }

/** The milliseconds of a Go duration such as `1m30s`; none for zero and below, which mean no bound to containerd. */
function millisecondsOf(value: unknown): number | undefined {
  const parts = String(value ?? '').matchAll(/(\d*\.?\d+)(h|ms|m|s)/g)
  const sum = [...parts].reduce((sum, [, amount, unit = '']) => sum + Number(amount) * (UNITS[unit] ?? 0), 0)
  return sum > 0 ? sum : undefined
}

/** Whether containerd asks a registry by HTTP. */
function isLocal(registry: string): boolean {
  const host = registry.startsWith('[') ? registry.slice(0, registry.indexOf(']') + 1) : registry.replace(/:\d+$/, '')
  return host === 'localhost' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host)
}

// Docker finds certificates by file names: `*.crt`, and `*.cert` with `*.key`. containerd uses those only if there is no
// hosts.toml.

export async function hasCertificates(directory: string, files: HostsReader): Promise<boolean> {
  return (await filesIn(directory, files)).some((name) => /\.(?:crt|cert)$/.test(name))
}

async function filesIn(directory: string, files: HostsReader): Promise<string[]> {
  return ((await files.list(directory)) ?? []).flatMap(({ name, directory }) => (directory ? [] : [name])).sort()
}

/**
 * What a new hosts.toml must say about the registry itself: the certificates beside the file. containerd knows its address.
 *
 * @throws {HostsError} if one hosts.toml cannot name them
 */
export async function certificateLines(directory: string, files: HostsReader): Promise<string[]> {
  const names = await filesIn(directory, files)
  const ca = names.filter((name) => name.endsWith('.crt')).map(quote)
  const certificates = names.filter((name) => name.endsWith('.cert'))
  const pairs = certificates.flatMap((name) => {
    const key = name.replace(/cert$/, 'key')
    return names.includes(key) ? [`[${quote(name)}, ${quote(key)}]`] : []
  })
  if (pairs.length > 0 && pairs.length < certificates.length) {
    throw new HostsError('client certificates with and without a .key beside them: one hosts.toml cannot name both')
  }
  const clients = pairs.length > 0 ? pairs : certificates.map(quote)
  return [
    ...(ca.length > 0 ? [`ca = [${ca.join(', ')}]`] : []),
    ...(clients.length > 0 ? [`client = [${clients.join(', ')}]`] : []),
  ]
}
