import manifest from '../../package.json' with { type: 'json' }
import type { HttpMetrics } from '../http/metrics.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Readiness } from '../observe/readiness.ts'
import type { Listener } from '../platform/listener.ts'
import { runtimeName, runtimeVersion } from '../platform/runtime.ts'
import type { ContentStore } from '../store/store.ts'

export interface MeasuredParts {
  readonly readiness: Pick<Readiness, 'reasons'>
  readonly store: Pick<ContentStore, 'isUp'>
  /** The keys that this node offers to others. */
  readonly held: { readonly size: number }
  readonly peer: Pick<Listener, 'running'>
}

/** Registers the metrics of a mirror as a whole. */
export function registerMirrorMetrics({ gaugesFrom, gaugeFrom }: Metrics, parts: MeasuredParts): void {
  const { readiness, store, held, peer } = parts
  const build = { version: manifest.version, runtime: runtimeName, runtime_version: runtimeVersion }
  gaugesFrom('build_info', 'Always 1; the labels say what runs.', ['version', 'runtime', 'runtime_version'], () => [
    [build, 1],
  ])
  gaugeFrom('ready', 'Whether this mirror is ready (1) or not (0), as /readyz says.', () =>
    Number(readiness.reasons.length === 0),
  )
  gaugeFrom('store_up', 'Whether containerd, or the layout that stands in for it, can be asked (1) or not (0).', () =>
    Number(store.isUp),
  )
  gaugeFrom('keys_held', 'Digests and tags that this node holds and offers to others.', () => held.size)
  gaugeFrom(
    'peer_door_transfers',
    'Requests of other nodes that are being answered at this moment.',
    () => peer.running,
  )
}

/**
 * Makes a function that calls `run` if, since its last call, containerd has asked for anything here or another node got content.
 * The start does not count: the first pull runs code that the start has compiled, and only 3 to 7 MiB could be given back.
 */
export function afterWork({ requests }: Pick<HttpMetrics, 'requests'>, run: () => void): () => void {
  let before = 0
  return () => {
    const work = requests.values.filter(({ labels: { door, source } }) => door === 'registry' || source !== 'none')
    const now = work.reduce((sum, { value }) => sum + value, 0)
    if (now > before) run()
    before = now
  }
}
