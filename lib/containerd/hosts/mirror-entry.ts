import { hostOf } from '../../settings/settings.ts'
import { dialectOf } from '../dialect.ts'
import type { MirrorEntry } from './block.ts'

/**
 * How long containerd may take to connect to the mirror. On loopback a connection is made or refused at once; one second
 * is the kernel's first retransmission, and far below containerd's own 30 s.
 */
export const DIAL_TIMEOUT = '1s'

/**
 * What a hosts.toml must say of the mirror.
 *
 * @param listen the registry door; one on all addresses is reached on loopback
 * @param tags whether tags resolve from the swarm, or upstream only
 * @param version of containerd, as it tells it; `undefined` if it could not be asked
 */
export function mirrorEntryFor(
  listen: { readonly host: string; readonly port: number },
  tags: 'cached' | 'off',
  version: string | undefined,
): MirrorEntry {
  return {
    url: `http://${hostOf(listen.host)}:${listen.port}`,
    // Without "resolve" containerd asks upstream what a tag means, and only then comes here for the content.
    capabilities: tags === 'cached' ? ['pull', 'resolve'] : ['pull'],
    ...(dialectOf(version).dialTimeout ? { dialTimeout: DIAL_TIMEOUT } : {}),
  }
}
