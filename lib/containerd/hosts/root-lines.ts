import { join } from 'node:path'
import { DEFAULT_REGISTRY } from '../../oci/reference.ts'
import { quote } from './block.ts'
import { DEFAULT_NAMESPACE, type DockerCertificates, dockerCertificates } from './directory.ts'
import type { HostsFiles } from './files.ts'
import { HostsError } from './hosts-error.ts'

/** Where Docker Hub really is. */
const HUB_SERVER = 'https://registry-1.docker.io'

/**
 * What a new hosts.toml must say of the registry itself: where it is, and the certificates beside the file, which
 * containerd takes by their names only as long as there is no hosts.toml.
 *
 * `_default` is for many registries, as is a directory that other names lead to: there the server is left out, and
 * containerd asks the registry of the image. So it is for registries on this machine, which may be on HTTP.
 */
export async function rootLinesFor(
  registry: string,
  directory: string,
  certsDir: string,
  files: HostsFiles,
): Promise<string[]> {
  const shared = (await files.isLink(directory)) || (await isLedTo(directory, certsDir, files))
  const named = registry !== DEFAULT_NAMESPACE && !shared && !isLocal(registry)
  const server = registry === DEFAULT_REGISTRY ? HUB_SERVER : `https://${registry}`
  const certificates = await dockerCertificates(files, directory)
  return [...(named ? [`server = ${quote(server)}`] : []), ...certificateLines(certificates)]
}

function certificateLines({ ca, client }: DockerCertificates): string[] {
  const paired = client.filter(([, key]) => key !== undefined)
  if (paired.length > 0 && paired.length < client.length) {
    throw new HostsError('client certificates with and without a .key beside them: one hosts.toml cannot name both', 0)
  }
  const clients = client.map(([certificate, key]) =>
    key === undefined ? quote(certificate) : `[${quote(certificate)}, ${quote(key)}]`,
  )
  return [
    ...(ca.length > 0 ? [`ca = [${ca.map(quote).join(', ')}]`] : []),
    ...(clients.length > 0 ? [`client = [${clients.join(', ')}]`] : []),
  ]
}

/** Whether another name in the certs directory is a link to this directory. */
async function isLedTo(directory: string, certsDir: string, files: HostsFiles): Promise<boolean> {
  const real = await files.real(directory)
  if (real === undefined) return false
  for (const { name } of (await files.list(certsDir)) ?? []) {
    const path = join(certsDir, name)
    if (path !== directory && (await files.isLink(path)) && (await files.real(path)) === real) return true
  }
  return false
}

/** A registry that containerd asks over HTTP by default. */
function isLocal(registry: string): boolean {
  const host = registry.startsWith('[') ? registry.slice(0, registry.indexOf(']') + 1) : registry.replace(/:\d+$/, '')
  return host === 'localhost' || host === '[::1]' || /^127\.\d+\.\d+\.\d+$/.test(host)
}
