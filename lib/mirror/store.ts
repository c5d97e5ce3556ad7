import type { Containerd } from '../containerd/client/client.ts'
import { probeOfLabels } from '../containerd/probe-name.ts'
import type { Logger } from '../observe/log.ts'
import type { Readiness } from '../observe/readiness.ts'
import type { Policy } from '../oci/policy.ts'
import { ConfigurationError, type Settings } from '../settings/settings.ts'
import { LayoutError, openLayoutStore } from '../store/layout/layout.ts'
import type { ContentStore } from '../store/store.ts'
import { createNodeFiles, type NodeFiles } from '../swarm/node-files.ts'

export interface StoreDependencies {
  readonly policy: Policy
  readonly readiness: Readiness
  readonly log: Logger
}

/**
 * Opens the store that the settings name, and adds it to `parts`, which closes it.
 *
 * @returns also the connection to containerd, if that is the store
 * @throws {ConfigurationError} if the directory is not an OCI image layout
 */
export async function openStore(
  settings: Settings,
  { policy, readiness, log }: StoreDependencies,
  parts: AsyncDisposableStack,
): Promise<{ readonly store: ContentStore; readonly containerd?: Containerd }> {
  if (settings.store.kind === 'oci-layout') {
    const { dir } = settings.store
    const store = await openLayoutStore(dir, { log, readiness, admits: policy.admits }).catch((error: unknown) => {
      if (error instanceof LayoutError) throw new ConfigurationError([`--store oci-layout:${dir}: ${error.message}`])
      throw error
    })
    parts.defer(() => store.close())
    return { store }
  }
  // Loaded only when it is needed: gRPC takes 5 MiB.
  const { connectContainerd } = await import('../containerd/client/client.ts')
  const { createContainerdStore } = await import('../containerd/store/store.ts')
  const containerd = parts.adopt(connectContainerd(settings['containerd-socket']), (made) => made.close())
  const store = createContainerdStore(
    { client: containerd.in(settings['containerd-namespace']), log, readiness },
    {
      admits: policy.admits,
      admitsSource: policy.admitsSource,
      contentRoot: settings['containerd-content'],
      withholds: (labels) => probeOfLabels(labels) !== undefined,
    },
  )
  parts.defer(() => store.close())
  return { store, containerd }
}

/** @throws {ConfigurationError} if the directory cannot be made or written */
export async function openNodeFiles(dir: string, log: Logger): Promise<NodeFiles> {
  return await createNodeFiles(dir, log).catch((error: Error) => {
    throw new ConfigurationError([`--data-dir ${dir}: ${error.message}`])
  })
}
