import type { Logger } from '../../observe/log.ts'
import type { Digest } from '../../oci/digest.ts'
import { bounded, unlessAborted } from '../../platform/abort.ts'
import { hostOf } from '../../settings/settings.ts'
import type { ContainerdClient } from '../client/client.ts'
import type { CriClient } from '../client/cri.ts'
import { ContainerdError } from '../client/error.ts'
import type { ProbeDoor, ProbeRequest } from './probe-door.ts'
import { makeProbeImage, type ProbeImage } from './probe-image.ts'
import { type ProbePlaces, REMOVE_TIMEOUT, removeProbe, writeProbeHosts } from './probe-traces.ts'

/** What became of the layer: see {@link layerAfter}. */
export type LayerState = 'kept' | 'loose' | 'gone' | 'never fetched'

/** How containerd was told where the probe is: by a hosts.toml of its own, or by the one for all registries. */
export type ProbeWay = 'own' | '_default'

/** What a probe has seen. */
export type ProbeEvidence =
  | {
      readonly kind: 'pulled' | 'failed'
      readonly way: ProbeWay
      /** The probe's name, and the door that it was told to be at. */
      readonly registry: string
      readonly door: string
      readonly requests: readonly ProbeRequest[]
      /** Why the pull failed, in containerd's words. */
      readonly error?: string
      /** Whether the pull was given up on, with containerd answering other questions meanwhile. */
      readonly timedOut: boolean
      /** Missing if the pull failed. */
      readonly layer?: LayerState
    }
  /** There was no probe, or nothing can be told from it. */
  | { readonly kind: 'impossible'; readonly reason: string }

export interface ProbeDependencies extends ProbePlaces {
  readonly client: ProbePlaces['client'] & Pick<ContainerdClient, 'contentInfo'>
  readonly cri: CriClient
  /** The door that answers at {@link ProbeOptions.address}. */
  readonly door: ProbeDoor
  /** Whether the hosts.toml for all registries points to that door first, and if not, why not. */
  readonly defaultPointsHere: (signal: AbortSignal) => Promise<true | string>
  readonly log: Logger
}

export interface ProbeOptions {
  /** Where containerd reaches the door. */
  readonly address: { readonly host: string; readonly port: number }
  /** Longest time for the pull, in milliseconds. */
  readonly pullTimeout?: number
  /** Longest time for the removal of everything afterwards, in milliseconds; it is not given up when the caller's signal aborts. */
  readonly removeTimeout?: number
}

/** A pull of 3 KiB over loopback takes 0.2 s; a disk that is busy, or names that do not resolve, some more. */
export const PROBE_TIMEOUT = 20_000
/**
 * Longest wait in milliseconds for the end of a pull that was given up on, when the door gives it nothing any more. Only then
 * is it known that nothing of it can come any more: a call that is cancelled goes on in containerd for a moment.
 */
const END_TIMEOUT = 1_000
/** Longest wait in milliseconds for the one question that tells a slow pull from a containerd that stands still. */
const ALIVE_TIMEOUT = 2_000

/** containerd's labels from a manifest to what it needs. Without one, the garbage collection takes the layer. */
const REFERENCE_LABEL = 'containerd.io/gc.ref.content.'

/**
 * Finds out by behaviour whether containerd asks this mirror and keeps layers: pulls an image that nobody else has under a
 * name that nobody else serves, as the kubelet would, and watches the door and the content store. It knows nothing of
 * versions and configuration files. Everything is removed again, before it returns.
 *
 * @throws the signal's reason, and what containerd's client throws when containerd goes away
 */
export async function runProbe(
  dependencies: ProbeDependencies,
  options: ProbeOptions,
  signal: AbortSignal,
): Promise<ProbeEvidence> {
  const { cri, log, door } = dependencies
  try {
    await cri.version(signal)
  } catch (error) {
    if (!(error instanceof ContainerdError) || error.code !== 'unsupported') throw error
    return {
      kind: 'impossible',
      reason: 'containerd runs without its CRI plugin, so nothing can be pulled as the kubelet would',
    }
  }
  const probe = makeProbeImage(options.address.port)
  const url = `http://${hostOf(options.address.host)}:${options.address.port}`
  const served = door.serve(probe)
  let ended = true
  try {
    const way = await prepare(dependencies, probe, url, signal)
    if (typeof way !== 'string') return way
    const pulling = startPull(cri, probe)
    try {
      return await pull(dependencies, { probe, way, door: url, requests: served.requests, pulling }, options, signal)
    } finally {
      served.withhold()
      ended = await pulling.end(END_TIMEOUT)
    }
  } finally {
    const remains = { registry: probe.registry, content: contentOf(probe), ended }
    const remove = (bound: AbortSignal) => removeProbe(dependencies, remains, bound)
    await bounded(options.removeTimeout ?? REMOVE_TIMEOUT, undefined, remove).catch((error) =>
      log.warn('a probe could not be removed; the next start tries again', { registry: probe.registry, error }),
    )
    served.close()
  }
}

/** Tells containerd where the probe is, in the way that is possible here. */
async function prepare(
  { certsDir, defaultPointsHere }: ProbeDependencies,
  { registry, image }: ProbeImage,
  door: string,
  signal: AbortSignal,
): Promise<ProbeWay | ProbeEvidence> {
  try {
    await writeProbeHosts(certsDir, registry, { door, content: contentOf({ image }) })
    return 'own'
  } catch (error) {
    const points = await defaultPointsHere(signal)
    if (points === true) return '_default'
    const { code, message } = error as NodeJS.ErrnoException
    const written = `no hosts.toml for it can be written: ${code === 'ENOENT' ? `${certsDir} is not there` : message}`
    return { kind: 'impossible', reason: `${written}; nor is there one in _default that leads here: ${points}` }
  }
}

function contentOf({ image }: Pick<ProbeImage, 'image'>): Digest[] {
  return image.contents.map(({ descriptor }) => descriptor.digest)
}

/** A pull that runs, with an end of its own. */
interface Pull {
  /** Rejects with the signal's reason if that aborts first; the pull goes on then. */
  wait(signal: AbortSignal): Promise<void>
  /** Waits that long for its end, and cancels it then. False if it was cancelled, so that containerd may still be at it. */
  end(time: number): Promise<boolean>
}

function startPull(cri: CriClient, { reference }: ProbeImage): Pull {
  const cancelling = new AbortController()
  const pulling = cri.pullImage(reference, cancelling.signal)
  const over = pulling.then(
    () => undefined,
    () => undefined,
  )
  return {
    wait: (signal) => unlessAborted(pulling, signal),
    async end(time) {
      try {
        await bounded(time, undefined, (bound) => unlessAborted(over, bound))
        return true
      } catch {
        // Too late is all that it can be.
        cancelling.abort(new Error('the pull of a probe was given up on'))
        return false
      }
    },
  }
}

async function pull(
  { cri, client }: ProbeDependencies,
  told: { probe: ProbeImage; way: ProbeWay; door: string; requests: readonly ProbeRequest[]; pulling: Pull },
  { pullTimeout = PROBE_TIMEOUT }: ProbeOptions,
  signal: AbortSignal,
): Promise<ProbeEvidence> {
  const { probe, way, door, requests, pulling } = told
  const seen = { way, door, registry: probe.registry, requests }
  try {
    await bounded(pullTimeout, signal, (bound) => pulling.wait(bound))
  } catch (error) {
    signal.throwIfAborted()
    // Throws if containerd is gone, or stands still as a whole: then the failure says nothing of its configuration.
    await bounded(ALIVE_TIMEOUT, signal, (bound) => cri.version(bound))
    if (error instanceof ContainerdError) return { kind: 'failed', ...seen, timedOut: false, error: error.message }
    return { kind: 'failed', ...seen, timedOut: true, error: `not done within ${pullTimeout / 1000} s` }
  }
  return { kind: 'pulled', ...seen, timedOut: false, layer: await layerAfter(client, probe, requests, signal) }
}

/**
 * What the pull has left of the layer. With `discard_unpacked_layers`, nothing refers to it (`loose`), so that the next
 * garbage collection takes it (`gone`); there is no need to wait for that. A snapshotter that fetches lazily does without it
 * (`never fetched`).
 */
async function layerAfter(
  client: Pick<ContainerdClient, 'contentInfo'>,
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
