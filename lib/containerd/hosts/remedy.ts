import type { Remedy } from '../finding.ts'
import { shellWord } from '../shell.ts'
import { DEFAULT_NAMESPACE } from './directory.ts'
import type { HostsCheck } from './look.ts'

/** What `hosts` does without flags; tests/hosts holds it against the settings. */
export const SETTINGS_DEFAULT = {
  certsDir: '/etc/containerd/certs.d',
  url: 'http://127.0.0.1:5000',
  socket: '/run/containerd/containerd.sock',
} as const

/** What makes swarmirror write its entry as it should be. */
export function rewrite(registries: string, check: HostsCheck): Remedy & { readonly command: string } {
  return { text: 'let swarmirror write it', command: hostsCommand(registries, check) }
}

/** The command that writes the entry as it should be, for a comma list of registries, or for `_default`. */
export function hostsCommand(
  registries: string,
  { certsDir, mirror, socket, program }: Pick<HostsCheck, 'certsDir' | 'mirror' | 'socket' | 'program'>,
): string {
  const { hostname, port } = new URL(mirror.url)
  const flags = [
    ...(registries === DEFAULT_NAMESPACE ? [] : ['--registries', shellWord(registries)]),
    ...(certsDir === SETTINGS_DEFAULT.certsDir ? [] : ['--certs-dir', shellWord(certsDir)]),
    ...(mirror.url === SETTINGS_DEFAULT.url ? [] : ['--listen', `${hostname}:${port || '80'}`]),
    ...(mirror.capabilities.includes('resolve') ? [] : ['--tags', 'off']),
    ...(socket === SETTINGS_DEFAULT.socket ? [] : ['--containerd-socket', shellWord(socket)]),
  ]
  return [program, 'hosts', ...flags].join(' ')
}

/**
 * containerd takes nothing from what stands there, so nothing is lost.
 *
 * @param place what could be corrected as well
 */
export function movedAway(path: string, place: string | undefined, command: string): Remedy {
  const corrected = place === undefined ? '' : `, or correct ${place}`
  const text = `move it away${corrected}; then let swarmirror write its entry`
  return { text, command: `mv ${shellWord(path)} ${shellWord(`${path}.broken`)} && ${command}` }
}
