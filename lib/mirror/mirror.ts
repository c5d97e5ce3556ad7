import { createProbeDoor } from '../containerd/check/probe-door.ts'
import type { Containerd } from '../containerd/client/client.ts'
import { isProbeRegistry, probeOfLabels } from '../containerd/probe-name.ts'
import { createAdminDoor } from '../http/admin.ts'
import { createHttpMetrics } from '../http/metrics.ts'
import { createPeerDoor } from '../http/peer.ts'
import { createRegistryDoor } from '../http/registry.ts'
import { createUploadRate } from '../http/upload-rate.ts'
import { Activity } from '../observe/activity.ts'
import type { Logger } from '../observe/log.ts'
import { createMetrics } from '../observe/metrics.ts'
import { registerProcessMetrics } from '../observe/process-figures.ts'
import { Readiness } from '../observe/readiness.ts'
import { createPolicy, type ImageName, type Policy } from '../oci/policy.ts'
import { BYTE_TIMEOUT, PeerClient } from '../peers/client.ts'
import { createCredentials } from '../peers/credentials.ts'
import { PeerHealth } from '../peers/health.ts'
import { registerPeerMetrics } from '../peers/metrics.ts'
import { RecentSources } from '../peers/recent-sources.ts'
import { createTlsIdentity } from '../peers/tls.ts'
import { addressOf } from '../platform/address.ts'
import type { Handler } from '../platform/listen.ts'
import { type Address, ConfigurationError, type Settings } from '../settings/settings.ts'
import { LayoutError, openLayoutStore } from '../store/layout/layout.ts'
import type { ContentStore } from '../store/store.ts'
import { registerSwarmMetrics } from '../swarm/metrics.ts'
import { NodeMemory } from '../swarm/node-memory.ts'
import { LOOPBACK_SWARM_KEY } from '../swarm/topic.ts'
import { createPeerContent } from '../transfer/peer-content.ts'
import { LONGEST_RACE } from '../transfer/search.ts'
import { cut, openDoor, openPeerPort } from './doors.ts'
import { registerMirrorMetrics } from './metrics.ts'
import { publish, withdrawAll } from './publisher.ts'
import { createMirrorPage } from './status.ts'

/** A mirror that runs: its doors, and how to end it. */
export interface Mirror {
  readonly registry: Address
  readonly peer: Address
  readonly admin: Address
  /** Whether it does its work, and why not. */
  readonly readiness: Readiness
  /** Why it must end: the node is not configured for it, which was found when it started. */
  readonly failure: ConfigurationError | undefined
  /** Ends it: not ready, everything withdrawn from the swarm, running transfers drained, all closed. */
  close(): Promise<void>
}

export interface MirrorOptions {
  /** Milliseconds that running transfers get to finish when the mirror is closed. */
  readonly drainTimeout?: number
  /** Milliseconds that withdrawing everything from the swarm may take when the mirror is closed. */
  readonly withdrawTimeout?: number
  /** What starts this program, in a shell, for the commands that people are told; its name alone if missing. */
  readonly program?: string
}

/** Together below the 30 s that Kubernetes gives a pod to stop by default. */
const DRAIN_TIMEOUT = 20_000
const WITHDRAW_TIMEOUT = 5_000

/**
 * Builds a mirror from its settings and starts it. If a part cannot start, those before it are closed again.
 *
 * @throws {ConfigurationError} when the settings cannot work on this machine: an address that is taken, a broken layout
 */
export async function startMirror(settings: Settings, log: Logger, options: MirrorOptions = {}): Promise<Mirror> {
  const parts = new AsyncDisposableStack()
  try {
    return await start(settings, log, options, parts)
  } catch (error) {
    await parts.disposeAsync()
    throw error
  }
}

/** Every part is put on `parts` as soon as it is there; they are closed in the opposite order. */
async function start(
  settings: Settings,
  log: Logger,
  { drainTimeout = DRAIN_TIMEOUT, withdrawTimeout = WITHDRAW_TIMEOUT, program = 'swarmirror' }: MirrorOptions,
  parts: AsyncDisposableStack,
): Promise<Mirror> {
  const chosen = createPolicy({
    registries: settings.registries,
    exclude: settings.exclude,
    resolvesTags: settings.tags === 'cached',
  })
  // What a check pulls is nobody's image: no door but the one for probes serves it, and the swarm never hears of it.
  const policy = { ...chosen, admits: (name: ImageName) => !isProbeRegistry(name.registry) && chosen.admits(name) }
  const readiness = new Readiness()
  const running = readiness.wait()
  const { store, containerd } = await openStore(settings, { policy, readiness, log }, parts)
  parts.defer(() => store.close())
  const memory = await openMemory(settings['data-dir'], log)
  parts.defer(async () => memory?.close())
  const health = new PeerHealth()
  const activity = new Activity()
  let peerAddress: string | undefined
  const metrics = createMetrics()
  parts.defer(registerProcessMetrics(metrics))
  const httpMetrics = createHttpMetrics(metrics)
  registerPeerMetrics(metrics, health)
  const swarmKeys = settings['swarm-key'] ?? ([LOOPBACK_SWARM_KEY] as const)
  const credentials = createCredentials(swarmKeys)
  const tls = settings['peer-transfer'] === 'tls' ? createTlsIdentity(swarmKeys) : undefined
  const rate = settings['max-upload-rate']
  const uploadRate = rate === undefined ? undefined : createUploadRate(rate)
  const peerDoor = createPeerDoor(
    { store, policy, log, metrics: httpMetrics, capabilities: credentials, advertised: () => peerAddress, uploadRate },
    { maxTransfers: settings['max-transfers'] },
  )
  const {
    listener: peer,
    router,
    advertised,
  } = await openPeerPort(
    settings,
    { handler: peerDoor.fetch, swarmKeys, tls, liveness: health, readiness },
    memory,
    log,
  )
  registerSwarmMetrics(metrics, router)
  // As the askers write it, since both sides put it under the MAC of a capability.
  peerAddress = addressOf(advertised)
  parts.defer(() => cut(peer))
  parts.defer(() => router.close())
  // A race knows better how long a peer is worth waiting for, and the watchdog how long a body is.
  const byteTimeout = Math.max(BYTE_TIMEOUT, settings['stall-timeout'])
  const client = new PeerClient({ tls, headTimeout: LONGEST_RACE, byteTimeout })
  parts.defer(() => client.close())
  const peers = createPeerContent(
    {
      router,
      client,
      credentials,
      health,
      recent: new RecentSources(),
      metrics,
      log,
      onTransfer: (transfer) => activity.transferred(transfer),
    },
    {
      lookupTimeout: settings['lookup-timeout'],
      parallelPeers: settings['parallel-peers'],
      stallTimeout: settings['stall-timeout'],
      verify: settings.verify === 'on',
    },
  )
  const registryDoor = createRegistryDoor({ store, peers, policy, metrics: httpMetrics, activity, log })
  const probeDoor = createProbeDoor()
  const forContainerd: Handler = (request, admission) =>
    probeDoor.fetch(request) ?? registryDoor.fetch(request, admission)
  const registry = await openDoor('listen', settings.listen, forContainerd, log)
  parts.defer(() => cut(registry))

  const publisher = publish({ store, router, policy, readiness, log })
  parts.defer(() => publisher.close())
  const guard =
    containerd === undefined
      ? undefined
      : (await import('./guard.ts')).guardNode(settings, {
          containerd,
          registry,
          probeDoor,
          program,
          readiness,
          metrics,
          log,
        })
  parts.defer(async () => guard?.close())
  const { held } = publisher
  registerMirrorMetrics(metrics, {
    isReady: () => readiness.reasons.length === 0,
    isStoreUp: () => store.health.ok,
    keysHeld: () => held.size,
    peerDoorTransfers: () => peer.running,
  })
  const page = createMirrorPage(settings, {
    store,
    health,
    activity,
    router,
    held,
    readiness,
    report: () => guard?.report,
    policy,
    client,
    credentials,
    metrics: httpMetrics,
    address: peerAddress,
    log,
  })
  parts.defer(() => page?.close())
  const adminDoor = createAdminDoor({ readiness, metrics, page: page?.app })
  const admin = await openDoor('admin-listen', settings['admin-listen'], adminDoor.fetch, log)
  parts.defer(() => cut(admin))
  log.info('listening', { registry: addressOf(registry), peer: addressOf(peer), admin: addressOf(admin) })

  const close = async () => {
    running.for('stopping')
    log.info('stopping')
    await guard?.close()
    await publisher.close()
    await withdrawAll(router, publisher.held, AbortSignal.timeout(withdrawTimeout), log)
    const drain = AbortSignal.timeout(drainTimeout)
    const left = await Promise.all([registry.close(drain), peer.close(drain)])
    log.info('drained', { cut: left[0] + left[1] })
    await parts.disposeAsync()
    log.info('stopped')
  }
  let closing: Promise<void> | undefined
  return {
    registry,
    peer,
    admin,
    readiness,
    get failure() {
      return guard?.failure
    },
    close() {
      closing ??= close()
      return closing
    },
  }
}

async function openStore(
  settings: Settings,
  { policy, readiness, log }: { readonly policy: Policy; readonly readiness: Readiness; readonly log: Logger },
  parts: AsyncDisposableStack,
): Promise<{ readonly store: ContentStore; readonly containerd?: Containerd }> {
  const { store } = settings
  const options = { admits: policy.admits }
  if (store.kind === 'oci-layout') {
    try {
      return { store: await openLayoutStore(store.dir, { log, readiness, ...options }) }
    } catch (error) {
      if (error instanceof LayoutError)
        throw new ConfigurationError([`--store oci-layout:${store.dir}: ${error.message}`])
      throw error
    }
  }
  // What speaks gRPC takes 5 MiB, of which a mirror on a layout needs nothing.
  const { connectContainerd } = await import('../containerd/client/client.ts')
  const { createContainerdStore } = await import('../containerd/store/store.ts')
  const containerd = connectContainerd(settings['containerd-socket'])
  parts.defer(() => containerd.close())
  const content = createContainerdStore(
    { client: containerd.in(settings['containerd-namespace']), log, readiness },
    {
      ...options,
      // A probe needs no such care: its content says by its labels what it is.
      isSelective: policy.isSelective,
      contentRoot: settings['containerd-content'],
      withholds: (labels) => probeOfLabels(labels) !== undefined,
    },
  )
  return { store: content, containerd }
}

async function openMemory(dir: string | undefined, log: Logger): Promise<NodeMemory | undefined> {
  if (dir === undefined) return undefined
  try {
    return await NodeMemory.open(dir, log)
  } catch (error) {
    throw new ConfigurationError([`--data-dir ${dir}: ${(error as Error).message}`])
  }
}
