import { createProbeDoor } from '../containerd/check/probe-door.ts'
import { isProbeRegistry } from '../containerd/probe-name.ts'
import { withoutFlight } from '../flight/flight.ts'
import { createFlightMetrics } from '../flight/metrics.ts'
import { CLAIM_TIME, createNodeFlight, type NodeFlight } from '../flight/node-flight.ts'
import { createAdminDoor } from '../http/admin.ts'
import { Followers } from '../http/from-arrival.ts'
import { createHttpMetrics } from '../http/metrics.ts'
import { createPeerDoor } from '../http/peer.ts'
import { createRegistryDoor } from '../http/registry.ts'
import { createUploadRate } from '../http/upload-rate.ts'
import { Activity } from '../observe/activity.ts'
import { boundedLog, LONGEST_TEXT, type Logger } from '../observe/log.ts'
import { createMetrics } from '../observe/metrics.ts'
import { registerProcessMetrics } from '../observe/process-figures.ts'
import { Readiness } from '../observe/readiness.ts'
import { createPolicy } from '../oci/policy.ts'
import type { Reference } from '../oci/reference.ts'
import { introducer } from '../page/census.ts'
import { PeerClient } from '../peers/client.ts'
import { createCredentials } from '../peers/credentials.ts'
import { KnownPeers } from '../peers/known-peers.ts'
import { registerPeerMetrics } from '../peers/metrics.ts'
import { patientClock } from '../peers/patient-clock.ts'
import { createTlsIdentity } from '../peers/tls.ts'
import { bounded } from '../platform/abort.ts'
import { addressOf } from '../platform/address.ts'
import { systemClock } from '../platform/clock.ts'
import type { Handler } from '../platform/listener.ts'
import { giveMemoryBack } from '../platform/runtime.ts'
import type { Address, Settings } from '../settings/settings.ts'
import { Arrivals } from '../store/arrivals.ts'
import { LOOPBACK_SWARM_KEY } from '../swarm/topic.ts'
import { createPeerContent } from '../transfer/peer-content.ts'
import { LONGEST_RACE } from '../transfer/race.ts'
import { createBootstrapDoors, watchDoors } from './bootstrap-doors.ts'
import { cut, openDoor, openPeerPort } from './doors.ts'
import { afterWork, registerMirrorMetrics } from './metrics.ts'
import { removeTaintWhenReady } from './node-taint.ts'
import { watchOwnAddress } from './own-address.ts'
import { createMirrorPage, SELF } from './page.ts'
import { publish, withdrawAll } from './publisher.ts'
import { openNodeFiles, openStore } from './store.ts'
import { createNodeUpstreams } from './upstreams.ts'

/** A mirror that runs: its doors, and how to end it. */
export interface Mirror {
  readonly registry: Address
  readonly peer: Address
  readonly admin: Address
  readonly readiness: Readiness
  /** Resolves when the mirror must end, with the reason why it cannot work on this node; never resolves otherwise. */
  readonly failed: Promise<Error>
  /** Ends the mirror: not ready, everything withdrawn from the swarm, running transfers drained, all closed. */
  close(): Promise<void>
}

/**
 * Milliseconds for running transfers to end, and for withdrawing. Together they stay below the 30 s that Kubernetes gives a
 * pod.
 */
const DRAIN_TIMEOUT = 20_000
const WITHDRAW_TIMEOUT = 5_000

/**
 * Log lines of one event that may come at once: enough for two images of a hundred layers each. Clients can cause most events.
 */
const LOG_BURST = 200

/**
 * Builds a mirror from its settings and starts it. If a part cannot start, the parts before it are closed again.
 *
 * @param program the shell command that starts this program, for remedies that name commands
 * @throws {ConfigurationError} when the settings cannot work on this machine: an address that is taken, a broken layout
 */
export async function startMirror(settings: Settings, log: Logger, program = 'swarmirror'): Promise<Mirror> {
  const parts = new AsyncDisposableStack()
  try {
    return await start(settings, boundedLog(log, { burst: LOG_BURST, maxText: LONGEST_TEXT }), program, parts)
  } catch (error) {
    await parts.disposeAsync()
    throw error
  }
}

/** Adds every part to `parts` as soon as it is made; they are closed in the opposite order. */
async function start(settings: Settings, log: Logger, program: string, parts: AsyncDisposableStack): Promise<Mirror> {
  /** Closes a part at the end. */
  const keep = <Part extends { close(): void | Promise<void> }>(part: Part) => parts.adopt(part, (kept) => kept.close())

  // What all parts use.
  const readiness = new Readiness()
  const running = readiness.wait()
  const failed = Promise.withResolvers<Error>()
  const metrics = createMetrics()
  const httpMetrics = createHttpMetrics(metrics)
  parts.defer(registerProcessMetrics(metrics, afterWork(httpMetrics, giveMemoryBack)))
  const activity = new Activity()
  const wanted = createPolicy({
    registries: settings.registries,
    exclude: settings.exclude,
    resolvesTags: settings.resolve !== 'upstream',
  })
  // Only the probe's own door serves the image that a check pulls, and the swarm never hears of it.
  const policy = { ...wanted, admits: (name: Reference) => !isProbeRegistry(name.registry) && wanted.admits(name) }
  const swarmKeys = settings['swarm-key'] ?? ([LOOPBACK_SWARM_KEY] as const)
  const credentials = createCredentials(swarmKeys)
  const tls = settings['peer-transfer'] === 'tls' ? createTlsIdentity(swarmKeys) : undefined

  // What this node has, and the way for other nodes to get it.
  const { store, containerd } = await openStore(settings, { policy, readiness, log }, parts)
  const dataDir = settings['data-dir']
  const files = dataDir === undefined ? undefined : keep(await openNodeFiles(dataDir, log))
  const known = new KnownPeers()
  registerPeerMetrics(metrics, known)
  const rate = settings['max-upload-rate']
  const uploadRate = rate === undefined ? undefined : createUploadRate(rate)
  const arrivals = new Arrivals(store)
  // Set below. Followers may ask as soon as the peer door is open.
  let flight: NodeFlight | undefined
  const followers = settings.flight === 'on' ? new Followers(arrivals, () => flight?.room ?? 1) : undefined
  const peerDoorAt = (address: string) =>
    createPeerDoor({
      ...{ store, policy, log, metrics: httpMetrics, capabilities: credentials, address, uploadRate },
      maxTransfers: settings['max-transfers'],
      followers,
    })
  const swarm = { files, liveness: known, readiness, metrics, log }
  const { peer, router, self } = await openPeerPort(settings, { peerDoorAt, tls, swarm, swarmKeys }, parts)
  const isNamed = settings['advertise-host'] !== undefined || settings['peer-listen'].host !== '0.0.0.0'
  keep(watchOwnAddress(self.host, isNamed, { readiness, log, onChanged: failed.resolve }))

  // Pages of other nodes ask who this node is. `held` is set below, before the swarm is joined.
  const introduce = introducer(() => ({ ...SELF, held: held.size, transfers: peer.running }))
  const { members } = router
  members.answer((question, from) => introduce(question, from) ?? flight?.answerTo(question, from))

  const doors = keep(createBootstrapDoors({ ...settings, 'peer-listen': peer }, tls))
  const isAlone = () => members.size <= 1
  keep(watchDoors({ doors, joined: router.joined, isAlone, readiness, log }))

  const publisher = keep(publish({ store, router, policy, readiness, log }))
  const { held } = publisher

  // The way to what other nodes have, and the door for containerd on this one. A race decides itself how long to wait for a peer.
  const client = keep(new PeerClient({ tls, headTimeout: LONGEST_RACE }))
  const onTransfer = activity.transferred.bind(activity)
  const lookupTimeout = settings['lookup-timeout']
  const flightMetrics = createFlightMetrics(metrics, () => flight?.figures ?? { kept: 0, arriving: 0 })
  if (settings.flight === 'on') {
    flight = createNodeFlight(
      {
        ...{ members, router, self, clock: systemClock, patientClock, log },
        ...{ holds: (key) => held.has(key), store: arrivals, metrics: flightMetrics },
      },
      { lookupTimeout, gives: containerd !== undefined && policy.needsNoTag },
    )
  }
  parts.defer(() => flight?.close())
  const peers = createPeerContent(
    {
      flight: flight ?? withoutFlight(router),
      address: addressOf(self),
      client,
      credentials,
      known,
      metrics,
      log,
      onTransfer,
      passing: followers && arrivals.passing.bind(arrivals),
    },
    {
      lookupTimeout: lookupTimeout + (flight === undefined ? 0 : CLAIM_TIME),
      parallelPeers: settings['parallel-peers'],
      stallTimeout: settings['stall-timeout'],
      verify: settings.verify === 'on',
    },
  )
  const probeDoor = createProbeDoor()
  const answer: Handler = (request, admission) => probeDoor.fetch(request) ?? registryDoor.fetch(request, admission)
  const registry = parts.adopt(await openDoor('listen', settings.listen, answer, log), cut)
  // With the port that the door got, to tell the mirror's own entry in hosts.toml from upstreams. This comes early enough: no
  // request comes before the next turn of the event loop.
  const upstreams = keep(createNodeUpstreams({ ...settings, listen: registry }, { held, metrics, log }))
  const registryDoor = createRegistryDoor({
    ...{ store, peers, policy, metrics: httpMetrics, activity, log },
    resolution: { by: settings.resolve, upstreams },
    defaultRegistry: settings['default-registry'],
  })

  // Checks whether containerd asks this mirror at all.
  const guard =
    containerd &&
    (await import('./guard.ts')).guardNode(settings, {
      ...{ containerd, registry, probeDoor, doors, program, readiness, metrics, log },
      onFailure: failed.resolve,
    })
  parts.defer(async () => guard?.close())

  // What people and Prometheus see.
  registerMirrorMetrics(metrics, { readiness, store, held, peer })
  const page = await createMirrorPage(settings, {
    ...{ store, held, router, members, known, activity, readiness },
    ...{ policy, client, credentials, address: addressOf(self), upstreams, log },
    metrics: httpMetrics,
    followers,
    report: () => guard?.report,
  })
  parts.defer(() => page?.close())
  const adminDoor = createAdminDoor({ readiness, metrics, page: page?.app })
  const admin = parts.adopt(await openDoor('admin-listen', settings['admin-listen'], adminDoor.fetch, log), cut)
  const metricsAddress = settings['metrics-listen']
  const metricsDoor = createAdminDoor({ readiness, metrics })
  const metricsListener =
    metricsAddress && parts.adopt(await openDoor('metrics-listen', metricsAddress, metricsDoor.fetch, log), cut)
  if (settings.untaint !== undefined) keep(removeTaintWhenReady(settings.untaint, { readiness, log }))
  log.info('listening', {
    ...{ registry: addressOf(registry), peer: addressOf(peer), admin: addressOf(admin) },
    metrics: metricsListener && addressOf(metricsListener),
  })

  const close = async () => {
    running.for('stopping')
    log.info('stopping')
    await guard?.close()
    await publisher.close()
    await bounded(WITHDRAW_TIMEOUT, undefined, (signal) => withdrawAll(router, held, signal, log))
    const drain = (signal: AbortSignal) => Promise.all([registry.close(signal), peer.close(signal)])
    const left = await bounded(DRAIN_TIMEOUT, undefined, drain)
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
    failed: failed.promise,
    close() {
      closing ??= close()
      return closing
    },
  }
}
