import type { Logger } from '../../observe/log.ts'
import { bounded, orAborted, unlessAborted } from '../../platform/abort.ts'
import type { ContainerdClient } from '../client/client.ts'
import type { CriClient } from '../client/cri.ts'
import { ContainerdError, unless } from '../client/error.ts'
import { mirrorUrlFor } from '../hosts/mirror-entry.ts'
import { type Fact, isUnreadable, type Unreadable } from '../rule.ts'
import { makeProbeImage, type ProbeDoor, type ProbeImage, type ProbeRequest } from './probe-door.ts'
import { type ProbePlaces, REMOVE_TIMEOUT, removeProbe, writeProbeHosts } from './probe-traces.ts'

/** What a probe saw, or why there was none, or why it proves nothing. */
export type ProbeEvidence = Fact<SeenPull>

/** The pull of a probe. */
export interface SeenPull {
  /** What leads containerd to the probe: a hosts.toml of the probe's own, or the one for all registries. */
  readonly way: 'own' | '_default'
  /** The probe's name, and the door where containerd should ask for it. */
  readonly registry: string
  readonly door: string
  readonly requests: readonly ProbeRequest[]
  /** containerd's message if the pull failed. */
  readonly error?: string
  /** What happened to the layer, see {@link layerAfter}; missing if the pull failed. */
  readonly layer?: LayerState
}

type LayerState = 'kept' | 'loose' | 'gone' | 'never fetched'

/** Whether containerd asked this mirror, which proves its `config_path` and hosts.toml files, or its `registry.mirrors`. */
export function asksMirror(evidence: ProbeEvidence): boolean {
  return !isUnreadable(evidence) && evidence.requests.some(({ ns }) => ns === evidence.registry)
}

/** Whether the layer stayed in the content store. */
export function keepsLayers(evidence: ProbeEvidence): boolean {
  return !isUnreadable(evidence) && evidence.layer === 'kept'
}

export interface ProbeDependencies extends ProbePlaces {
  /** The door that answers at {@link ProbeOptions.address}. */
  readonly door: ProbeDoor
  /** Whether the hosts.toml for all registries names that door first; if not, why not. */
  readonly defaultPointsHere: () => Promise<true | string>
  readonly log: Logger
}

export interface ProbeOptions {
  /** The address at which containerd reaches the door. */
  readonly address: { readonly host: string; readonly port: number }
  /** The longest time for the pull, in milliseconds. The caller's signal does not end the clean-up afterwards. */
  readonly pullTimeout?: number
}

/** In milliseconds. Pulling 3 KiB over loopback takes 0.2 s, and more if the disk is busy or names do not resolve. */
const PROBE_TIMEOUT = 20_000
/**
 * The longest wait for a pull to end once the door has stopped serving it, in milliseconds. Only an ended pull writes nothing more:
 * a cancelled call still runs in containerd for a moment.
 */
const END_TIMEOUT = 1_000
/** The longest wait for the one question that tells a slow pull from a hanging containerd, in milliseconds. */
const ALIVE_TIMEOUT = 2_000

/** containerd's labels that lead from a manifest to its content. Without one, the garbage collection takes the layer. */
const REFERENCE_LABEL = 'containerd.io/gc.ref.content.'

/**
 * Finds out by trying whether containerd asks this mirror and keeps layers. Like the kubelet, it pulls an image, which nobody else
 * has under a name that nobody else serves, and watches the door and the content store. It knows nothing about versions and
 * configuration files. It removes everything before it returns.
 *
 * @throws the signal's reason, or what containerd's client throws when containerd goes away
 */
export async function runProbe(
  dependencies: ProbeDependencies,
  options: ProbeOptions,
  signal: AbortSignal,
): Promise<ProbeEvidence> {
  const { client, cri, log, door } = dependencies
  if ((await unless('unsupported', cri.version(signal))) === undefined) {
    return { unreadable: 'containerd runs without its CRI plugin, so nothing can be pulled as the kubelet would' }
  }
  const probe = makeProbeImage(options.address.port)
  const content = probe.image.contents.map(({ descriptor }) => descriptor.digest)
  const url = mirrorUrlFor(options.address)
  const served = door.serve(probe)
  try {
    const way = await tellWhere(dependencies, probe.registry, url)
    if (typeof way !== 'string') return way
    const cancelling = new AbortController()
    const pulling = cri.pullImage(probe.reference, cancelling.signal)
    try {
      const seen = { way, registry: probe.registry, door: url, requests: served.requests }
      const error = await pullError(cri, pulling, options.pullTimeout ?? PROBE_TIMEOUT, signal)
      if (error !== undefined) return { ...seen, error }
      return { ...seen, layer: await layerAfter(client, probe, served.requests, signal) }
    } finally {
      served.withhold()
      const over = Promise.allSettled([pulling])
      const ended = await bounded(END_TIMEOUT, undefined, (bound) => orAborted(over, bound))
      if (ended === undefined) cancelling.abort(new Error('the pull of a probe was given up on'))
    }
  } finally {
    const remove = (bound: AbortSignal) => removeProbe(dependencies, { registry: probe.registry, content }, bound)
    await bounded(REMOVE_TIMEOUT, undefined, remove).catch((error) =>
      log.warn('a probe could not be removed; the next start tries again', { registry: probe.registry, error }),
    )
    served.close()
  }
}

/** Tells containerd where the probe is, in whatever way is possible here. */
async function tellWhere(
  { certsDir, defaultPointsHere }: ProbeDependencies,
  registry: string,
  door: string,
): Promise<SeenPull['way'] | Unreadable> {
  try {
    await writeProbeHosts(certsDir, registry, door)
    return 'own'
  } catch (error) {
    const points = await defaultPointsHere()
    if (points === true) return '_default'
    const { code, message } = error as NodeJS.ErrnoException
    const written = `no hosts.toml for it can be written: ${code === 'ENOENT' ? `${certsDir} is not there` : message}`
    return { unreadable: `${written}; and none in _default leads here: ${points}` }
  }
}

/** Why a pull failed, or did not end in time although containerd answers other questions; `undefined` if it succeeded. */
async function pullError(
  cri: CriClient,
  pulling: Promise<void>,
  timeout: number,
  signal: AbortSignal,
): Promise<string | undefined> {
  try {
    await bounded(timeout, signal, (bound) => unlessAborted(pulling, bound))
    return undefined
  } catch (error) {
    signal.throwIfAborted()
    // Throws if containerd is gone, or hangs as a whole: the failure then says nothing about its configuration.
    await bounded(ALIVE_TIMEOUT, signal, (bound) => cri.version(bound))
    return error instanceof ContainerdError ? error.message : `not done within ${timeout / 1000} s`
  }
}

/**
 * What the pull left of the layer. With `discard_unpacked_layers`, nothing refers to the layer (`loose`), and the next garbage
 * collection takes it (`gone`), for which the probe need not wait. A lazy snapshotter does not fetch it (`never fetched`).
 */
async function layerAfter(
  client: ContainerdClient,
  { image, layer }: ProbeImage,
  requests: readonly ProbeRequest[],
  signal: AbortSignal,
): Promise<LayerState> {
  const held = await client.contentInfo(layer.digest, signal)
  const manifest = await client.contentInfo(image.target.digest, signal)
  if (held === undefined) return requests.some(({ part }) => part === 'layer') ? 'gone' : 'never fetched'
  const labels = Object.entries(manifest?.labels ?? {})
  const referred = labels.some(([label, value]) => label.startsWith(REFERENCE_LABEL) && value === layer.digest)
  return referred ? 'kept' : 'loose'
}
