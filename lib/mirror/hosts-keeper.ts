import type { ContainerdClient } from '../containerd/client/client.ts'
import { applyChanges, HostsWriteError } from '../containerd/hosts/apply.ts'
import { HOSTS_FILES, isRefusal } from '../containerd/hosts/files.ts'
import { registriesToWrite } from '../containerd/hosts/look.ts'
import { mirrorEntryFor } from '../containerd/hosts/mirror-entry.ts'
import { planWrite } from '../containerd/hosts/plan.ts'
import type { Logger } from '../observe/log.ts'
import type { Address, Settings } from '../settings/settings.ts'

export interface HostsKeeperDependencies {
  /** Tells its version, by which hosts.toml is written. */
  readonly client: Pick<ContainerdClient, 'version'>
  /** The registry door, with the port that it got. */
  readonly listen: Address
  readonly log: Logger
}

/**
 * Makes hosts.toml files what `hosts` would make them, each time that it is called. What cannot be written is logged; the check that
 * follows judges what is there.
 *
 * @throws {ContainerdError} when containerd goes away; the signal's reason
 */
export function createHostsKeeper(settings: Settings, { client, listen, log }: HostsKeeperDependencies) {
  const certsDir = settings['certs-dir']
  return async (signal: AbortSignal): Promise<void> => {
    const { version } = await client.version(signal)
    const mirror = mirrorEntryFor(listen, settings.resolve, version)
    try {
      const { registries } = await registriesToWrite(settings, HOSTS_FILES)
      const { changes, refusals } = await planWrite({ certsDir, mirror, version, registries }, HOSTS_FILES)
      for (const { path, reason } of refusals) log.warn('hosts.toml left as it is', { path, reason })
      await applyChanges(certsDir, changes, HOSTS_FILES)
      for (const { path, action } of changes) if (action !== 'keep') log.info('hosts.toml written', { path, action })
    } catch (error) {
      if (!(error instanceof HostsWriteError || isRefusal(error))) throw error
      log.error('hosts.toml could not be written', { error })
    }
  }
}
