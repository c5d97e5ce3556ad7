import { join } from 'node:path'
import { DEFAULT_REGISTRY } from '../../oci/reference.ts'
import { quote } from './block.ts'
import { HostsError } from './endpoint.ts'
import type { HostsReader } from './files.ts'
import { DEFAULT_NAMESPACE } from './look.ts'

/**
 * What a new hosts.toml must say of the registry itself: where it is, and the certificates beside the file.
 *
 * `_default` is for many registries, as is a directory that other names lead to: there the server is left out, and
 * containerd asks the registry of the image. So it does for registries on this machine, by HTTP.
 */
export async function rootLinesFor(
  registry: string,
  directory: string,
  certsDir: string,
  files: HostsReader,
): Promise<string[]> {
  const server = registry === DEFAULT_REGISTRY ? 'https://registry-1.docker.io' : `https://${registry}`
  const named = registry !== DEFAULT_NAMESPACE && !isLocal(registry) && !(await isLinkedTo(directory, certsDir, files))
  return [...(named ? [`server = ${quote(server)}`] : []), ...certificateLines(await filesIn(directory, files))]
}

/** A registry that containerd asks by HTTP. */
export function isLocal(registry: string): boolean {
  const host = registry.startsWith('[') ? registry.slice(0, registry.indexOf(']') + 1) : registry.replace(/:\d+$/, '')
  return host === 'localhost' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host)
}

/** Whether a link in the certs directory, by whatever name, leads to this directory. */
async function isLinkedTo(directory: string, certsDir: string, files: HostsReader): Promise<boolean> {
  const real = await files.real(directory)
  if (real === undefined) return false
  for (const { name, link } of (await files.list(certsDir)) ?? []) {
    if (link && (await files.real(join(certsDir, name))) === real) return true
  }
  return false
}

// Docker's way to give certificates is by the names of files: `*.crt`, and `*.cert` with `*.key`. containerd takes those only
// where there is no hosts.toml.

export async function hasCertificates(directory: string, files: HostsReader): Promise<boolean> {
  return (await filesIn(directory, files)).some((name) => /\.(?:crt|cert)$/.test(name))
}

async function filesIn(directory: string, files: HostsReader): Promise<string[]> {
  return ((await files.list(directory)) ?? []).flatMap(({ name, directory }) => (directory ? [] : [name])).sort()
}

function certificateLines(names: readonly string[]): string[] {
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
