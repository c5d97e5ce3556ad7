import { hostOf, SETTINGS } from '../../settings/settings.ts'
import { dialectOf } from '../dialect.ts'
import { shellWord } from '../rule.ts'
import { asksAt, type Endpoint } from './endpoint.ts'

/** What a hosts.toml must say of our mirror. */
export interface MirrorEntry {
  /** Where containerd reaches the registry door, such as `http://127.0.0.1:5000`. */
  readonly url: string
  readonly capabilities: readonly ('pull' | 'resolve')[]
  /** A Go duration; only for versions that know it. */
  readonly dialTimeout?: string | undefined
}

/**
 * How long containerd may take to connect to the mirror. On loopback a connection is made or refused at once; one second
 * is the kernel's first retransmission, and far below containerd's own 30 s.
 */
export const DIAL_TIMEOUT = '1s'

/** Where containerd reaches a registry door; one on all addresses is reached on loopback. */
export function mirrorUrlFor(listen: { readonly host: string; readonly port: number }): string {
  return `http://${hostOf(listen.host)}:${listen.port}`
}

/**
 * @param listen the registry door
 * @param resolve who says what a tag means
 * @param version of containerd, as it tells it; `undefined` if it could not be asked
 */
export function mirrorEntryFor(
  listen: { readonly host: string; readonly port: number },
  resolve: 'fallback' | 'upstream' | 'swarm',
  version: string | undefined,
): MirrorEntry {
  return {
    url: mirrorUrlFor(listen),
    // Without "resolve" containerd asks upstream what a tag means, and only then comes here for the content.
    capabilities: resolve === 'upstream' ? ['pull'] : ['pull', 'resolve'],
    ...(dialectOf(version).dialTimeout ? { dialTimeout: DIAL_TIMEOUT } : {}),
  }
}

/** Whether containerd asks a host at the mirror, and for the right things. */
export function isRight(host: Endpoint, mirror: MirrorEntry): boolean {
  return asksAt(host, mirror.url) && hasCapabilities(host, mirror)
}

export function hasCapabilities({ capabilities }: Endpoint, mirror: MirrorEntry): boolean {
  return [...new Set(capabilities)].sort().join() === [...mirror.capabilities].sort().join()
}

/** What hosts.toml files should say on this node, and what the commands that write them depend on. */
export interface HostsCheck {
  readonly certsDir: string
  /** The registries that are mirrored; all if missing. */
  readonly registries: readonly string[] | undefined
  readonly mirror: MirrorEntry
  /** As containerd tells it, if it could be asked, and where it tells it. */
  readonly version: string | undefined
  readonly socket: string
  /** What starts this program, in a shell, for the commands that remedies tell. */
  readonly program: string
  /** Whether this process sees all files as containerd does, and not only those in the certs directory. */
  readonly seesAll?: boolean
}

/**
 * The command that makes hosts.toml right, for a shell.
 *
 * @param flags which registries: `--registries` or `--also`, with a comma list; without them it is all, by `_default`
 */
export function hostsCommand(
  flags: { readonly registries?: readonly string[] | undefined; readonly also?: readonly string[] },
  { certsDir, mirror, socket, program }: Pick<HostsCheck, 'certsDir' | 'mirror' | 'socket' | 'program'>,
): string {
  const given: readonly (readonly [flag: string, value: string | undefined, fallback?: string])[] = [
    ['--registries', flags.registries?.join(',')],
    ['--also', flags.also?.join(',')],
    ['--certs-dir', certsDir, SETTINGS['certs-dir'].default],
    ['--listen', mirror.url.slice('http://'.length), SETTINGS.listen.default],
    ['--resolve', mirror.capabilities.includes('resolve') ? undefined : 'upstream'],
    ['--containerd-socket', socket, SETTINGS['containerd-socket'].default],
  ]
  const words = given.map(([flag, value, fallback]) =>
    value === undefined || value === fallback ? '' : ` ${flag} ${shellWord(value)}`,
  )
  return `${program} hosts${words.join('')}`
}
