import { lookup } from 'node:dns/promises'
import { isIPv4 } from 'node:net'
import type { Logger } from '../observe/log.ts'

/** Where other nodes may be found: an address or host name, or a DNS name of which every A record is a node. */
export interface BootstrapEntry {
  readonly kind: 'host' | 'dns'
  readonly host: string
  readonly port: number
}

export interface NodeAddress {
  /** IPv4. */
  readonly host: string
  readonly port: number
}

/** Resolves a name to its IPv4 addresses; throws what `node:dns` throws. */
export type ResolveName = (name: string) => Promise<readonly string[]>

/** The system's resolver, which knows /etc/hosts and the search domains of a cluster; its own time-outs bound it. */
export const resolveName: ResolveName = async (name) =>
  (await lookup(name, { family: 4, all: true })).map((found) => found.address)

/**
 * The addresses behind a bootstrap list, each once, without `self`. A name that cannot be resolved is logged and left out,
 * since it may resolve later: in a cluster the record of a headless service appears with its first pod.
 */
export async function resolveBootstrap(
  entries: readonly BootstrapEntry[],
  self: NodeAddress,
  log: Logger,
  resolve: ResolveName = resolveName,
): Promise<readonly NodeAddress[]> {
  const found = new Map<string, NodeAddress>()
  for (const { kind, host, port } of entries) {
    const addresses = isIPv4(host) ? [host] : await resolveOrNone(host, log, resolve)
    for (const address of kind === 'dns' ? addresses : addresses.slice(0, 1)) {
      if (address !== self.host || port !== self.port) found.set(`${address}:${port}`, { host: address, port })
    }
  }
  return [...found.values()]
}

async function resolveOrNone(name: string, log: Logger, resolve: ResolveName): Promise<readonly string[]> {
  try {
    return await resolve(name)
  } catch (error) {
    log.warn('bootstrap name does not resolve', { name, error })
    return []
  }
}
