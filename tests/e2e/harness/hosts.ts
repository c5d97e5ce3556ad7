import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** One `[host."URL"]` table of a hosts.toml. */
export interface HostEntry {
  readonly url: string
  readonly capabilities?: readonly ('pull' | 'resolve' | 'push')[]
}

/** What containerd asks for a registry: these hosts in order, and `server` last, by default the registry itself. */
export interface Hosts {
  readonly server?: string
  readonly hosts: readonly HostEntry[]
}

/** Writes `<certs>/<registry>/hosts.toml`. containerd reads it anew for every pull. */
export async function writeHosts(certs: string, registry: string, { server, hosts }: Hosts): Promise<void> {
  // JSON strings and arrays of strings are valid TOML.
  const tables = hosts.map(
    ({ url, capabilities = ['pull', 'resolve'] }) =>
      `[host.${JSON.stringify(url)}]\n  capabilities = ${JSON.stringify(capabilities)}\n`,
  )
  const upstream = server === undefined ? [] : [`server = ${JSON.stringify(server)}\n`]
  await mkdir(join(certs, registry), { recursive: true })
  await writeFile(join(certs, registry, 'hosts.toml'), [...upstream, ...tables].join('\n'))
}

/** Removes what {@link writeHosts} wrote: containerd then asks the registry itself. */
export async function removeHosts(certs: string, registry: string): Promise<void> {
  await rm(join(certs, registry), { recursive: true, force: true })
}
