import { hostOf, SETTINGS } from '../../settings/settings.ts'
import { shellWord } from '../rule.ts'
import { type Endpoint, leadsTo } from './endpoint.ts'

/** What a hosts.toml must say about our mirror. */
export interface MirrorEntry {
  /** Where containerd reaches the registry door, such as `http://127.0.0.1:5000`. */
  readonly url: string
  readonly capabilities: readonly ('pull' | 'resolve')[]
}

/** Where containerd reaches a registry door; one on all addresses is reached on loopback. */
export function mirrorUrlFor(listen: { readonly host: string; readonly port: number }): string {
  return `http://${hostOf(listen.host)}:${listen.port}`
}

/**
 * @param listen the registry door
 * @param resolve who says what a tag means
 */
export function mirrorEntryFor(
  listen: { readonly host: string; readonly port: number },
  resolve: 'fallback' | 'upstream' | 'swarm',
): MirrorEntry {
  return {
    url: mirrorUrlFor(listen),
    // Without "resolve" containerd first resolves a tag upstream, and then comes here for the content.
    capabilities: resolve === 'upstream' ? ['pull'] : ['pull', 'resolve'],
  }
}

/** Whether containerd asks the mirror through a host, and for the right things. */
export function isRight(host: Endpoint, mirror: MirrorEntry): boolean {
  return leadsTo(host, mirror.url) && hasCapabilities(host, mirror)
}

export function hasCapabilities({ capabilities }: Endpoint, mirror: MirrorEntry): boolean {
  return [...new Set(capabilities)].sort().join() === [...mirror.capabilities].sort().join()
}

/** What hosts.toml files on this node should say, and what the commands that write them depend on. */
export interface HostsCheck {
  readonly certsDir: string
  /** The mirrored registries; by default all. */
  readonly registries: readonly string[] | undefined
  readonly mirror: MirrorEntry
  /** As containerd tells it, if it could be asked. */
  readonly version: string | undefined
  /** What starts this program, in a shell, for the commands that remedies tell. */
  readonly program: string
}

/**
 * The shell command that corrects hosts.toml.
 *
 * @param flags the registries: `--registries` or `--also`, with a comma list; without them all, through `_default`
 */
export function hostsCommand(
  flags: { readonly registries?: readonly string[] | undefined; readonly also?: readonly string[] },
  { certsDir, mirror, program }: Pick<HostsCheck, 'certsDir' | 'mirror' | 'program'>,
): string {
  const given: readonly (readonly [flag: string, value: string | undefined, fallback?: string])[] = [
    ['--registries', flags.registries?.join(',')],
    ['--also', flags.also?.join(',')],
    ['--certs-dir', certsDir, SETTINGS['certs-dir'].default],
    ['--listen', mirror.url.slice('http://'.length), SETTINGS.listen.default],
    ['--resolve', mirror.capabilities.includes('resolve') ? undefined : 'upstream'],
  ]
  const words = given.map(([flag, value, fallback]) =>
    value === undefined || value === fallback ? '' : ` ${flag} ${shellWord(value)}`,
  )
  return `${program} hosts${words.join('')}`
}
