import { lookup } from 'node:dns/promises'
import { isIPv4 } from 'node:net'
import type { Logger } from '../../observe/log.ts'
import { unlessAborted } from '../../platform/abort.ts'

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

/** The same resolver, asked for a name once at a time: one that does not answer would be given more and more to do. */
export function onceAtATime(resolve: ResolveName): ResolveName {
  const underWay = new Map<string, Promise<readonly string[]>>()
  return (name) => {
    const before = underWay.get(name)
    if (before !== undefined) return before
    const asked = resolve(name).finally(() => underWay.delete(name))
    underWay.set(name, asked)
    return asked
  }
}

export interface BootstrapDependencies {
  readonly log: Logger
  readonly resolve?: ResolveName | undefined
}

/**
 * The addresses behind a bootstrap list, each once, without `self`. A name that cannot be resolved is logged and left out,
 * since it may resolve later: in a cluster the record of a headless service appears with its first pod.
 *
 * @param signal ends the waiting for names that do not resolve in time; they are left out
 */
export async function resolveBootstrap(
  { log, resolve = resolveName }: BootstrapDependencies,
  entries: readonly BootstrapEntry[],
  self: NodeAddress,
  signal: AbortSignal,
): Promise<readonly NodeAddress[]> {
  const resolveOrNone = async (name: string): Promise<readonly string[]> => {
    try {
      return await unlessAborted(resolve(name), signal)
    } catch (error) {
      log.warn('bootstrap name does not resolve', { name, error })
      return []
    }
  }
  const found = new Map<string, NodeAddress>()
  const resolved = entries.map(async ({ host }) => (isIPv4(host) ? [host] : await resolveOrNone(host)))
  for (const [index, addresses] of (await Promise.all(resolved)).entries()) {
    const { kind, port } = entries[index] as BootstrapEntry
    for (const host of kind === 'dns' ? addresses : addresses.slice(0, 1)) {
      if (host !== self.host || port !== self.port) found.set(`${host}:${port}`, { host, port })
    }
  }
  return [...found.values()]
}
