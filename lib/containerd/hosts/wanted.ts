import type { Settings } from '../../settings/settings.ts'
import type { HostsReader } from './files.ts'
import { DEFAULT_NAMESPACE, registriesIn } from './look.ts'

/**
 * The registries whose hosts.toml is written: `_default` is for all that have no directory of their own.
 *
 * @returns as `absent` those of `--also` that have none, so that `_default` counts for them
 */
export async function registriesToWrite(
  { 'certs-dir': certsDir, registries, also }: Pick<Settings, 'certs-dir' | 'registries' | 'also'>,
  files: HostsReader,
): Promise<{ readonly registries: readonly string[]; readonly absent: readonly string[] }> {
  if (registries !== undefined) return { registries: [...registries], absent: [] }
  if (also === undefined) return { registries: [DEFAULT_NAMESPACE], absent: [] }
  const own = new Set(await registriesIn(certsDir, files))
  const wanted = also === 'all' ? own : also
  return { registries: [DEFAULT_NAMESPACE, ...own.intersection(wanted)], absent: [...wanted.difference(own)] }
}
