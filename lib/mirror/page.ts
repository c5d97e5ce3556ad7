import { hostname } from 'node:os'
import { join } from 'node:path'
import manifest from '../../package.json' with { type: 'json' }
import { type Report, remedyAsText } from '../containerd/check/report.ts'
import type { Followers } from '../http/from-arrival.ts'
import type { HttpMetrics } from '../http/metrics.ts'
import type { Activity } from '../observe/activity.ts'
import { openHistory } from '../observe/history.ts'
import type { Logger } from '../observe/log.ts'
import type { Readiness } from '../observe/readiness.ts'
import type { Digest } from '../oci/digest.ts'
import type { Key } from '../oci/key.ts'
import { createCensus } from '../page/census.ts'
import { createHoldings } from '../page/holdings.ts'
import { createPage } from '../page/page.ts'
import { type ShownFinding, type Status, swarmStatus } from '../page/status.ts'
import { createTracer, type TracerDependencies } from '../page/trace.ts'
import { bounded } from '../platform/abort.ts'
import { isLoopback } from '../platform/address.ts'
import { runtimeName, runtimeVersion } from '../platform/runtime.ts'
import type { Settings } from '../settings/settings.ts'
import type { ContentStore } from '../store/store.ts'
import type { Members } from '../swarm/members.ts'
import type { Upstreams } from '../upstream/upstreams.ts'

/** What this node tells other members about itself, as far as it does not change while the mirror runs. */
export const SELF = {
  name: hostname(),
  version: manifest.version,
  runtime: `${runtimeName} ${runtimeVersion}`,
}
/** The file in `--data-dir` that keeps the last day for the page. */
const HISTORY_FILE = 'history.json'
/** Milliseconds that a look may wait for the sizes of content that came from upstream. */
const LEARNING_TIME = 500
/** Milliseconds for a look at content that arrives from upstream. */
const ARRIVAL_TIME = 50

export interface MirrorPageDependencies extends TracerDependencies {
  readonly activity: Activity
  readonly members: Members
  readonly held: ReadonlySet<Key>
  readonly readiness: Readiness
  /** The last report of the check; missing where there is none. */
  readonly report: () => Report | undefined
  readonly upstreams: Upstreams
  /** Missing if this mirror shares no downloads. */
  readonly followers: Followers | undefined
  readonly metrics: HttpMetrics
  /** The peer door's address as it is announced. */
  readonly address: string
  readonly log: Logger
}

/** Whether the admin door has a page: beyond loopback only if the settings say `on`. */
export function showsPage(settings: Pick<Settings, 'page' | 'admin-listen'>): boolean {
  return settings.page === 'on' || (settings.page === 'loopback' && isLoopback(settings['admin-listen'].host))
}

/**
 * The page of a mirror; `undefined` if its settings do not allow one, because not everybody who reaches the node may see the
 * names of images.
 *
 * @throws the system's error if the file with the last day cannot be read
 */
export async function createMirrorPage(settings: Settings, dependencies: MirrorPageDependencies) {
  if (!showsPage(settings)) return undefined
  const { store, known, activity, members, held, readiness, report, upstreams, metrics } = dependencies
  const { followers, address, log } = dependencies
  const holdings = createHoldings({ store, held, log })
  const census = createCensus({ members, log })
  const node = {
    ...{ version: `${manifest.name} ${SELF.version}`, runtime: SELF.runtime, address },
    store: settings.store.kind === 'containerd' ? 'containerd' : 'OCI image layout',
    startedAt: Date.now(),
  }
  const learn = async () => {
    try {
      await bounded(LEARNING_TIME, undefined, (over) =>
        activity.learn({
          describe: (digest) => store.describe(digest, over),
          arriving: (digest) => arrivedOf(store, digest, over),
        }),
      )
    } catch (error) {
      // The page must work without containerd, to say that it is down. The next look asks again.
      log.debug('sizes unknown', { error })
    }
  }
  const dataDir = settings['data-dir']
  const history = await openHistory({
    async look() {
      await learn()
      const { bytes, failures } = activity.totals
      return { ...bytes, failures, given: bytesGiven(metrics) }
    },
    path: dataDir === undefined ? undefined : join(dataDir, HISTORY_FILE),
    log,
  })
  const status = async (signal: AbortSignal): Promise<Status> => {
    const { reasons, notes } = readiness
    const lastDay = await history.status()
    return {
      time: Date.now(),
      node,
      ready: reasons.length === 0,
      reasons: [...reasons, ...notes],
      findings: report()?.findings.map(shownFinding),
      resolve: settings.resolve,
      registries: upstreams.states.map((state) => ({
        ...state,
        resolvedBy: state.state === 'silent' ? 'swarm' : 'upstream',
      })),
      swarm: swarmStatus({ size: members.size, counted: census(signal), peers: known.peers() }),
      held: await holdings(signal),
      totals: activity.totals,
      given: bytesGiven(metrics),
      pulls: activity.pulls,
      followers: followers?.all ?? {},
      history: lastDay,
    }
  }
  const trace = createTracer(dependencies, {
    lookupTimeout: settings['lookup-timeout'],
    resolution: { by: settings.resolve, upstreams },
  })
  const page = createPage({ status, trace, log })
  return {
    app: page.app,
    async close() {
      page.close()
      await history.close()
    },
  }
}

/** How much of a digest is here while containerd downloads it. */
async function arrivedOf(store: ContentStore, digest: Digest, signal: AbortSignal) {
  const arrival = store.arriving(digest)
  if (arrival === undefined) return undefined
  try {
    // Waits for its first look at the file, and rejects if nothing is there in that time.
    await bounded(ARRIVAL_TIME, signal, (over) => arrival.grown(0, over)).catch(() => undefined)
    signal.throwIfAborted()
    return { size: arrival.size, written: arrival.written }
  } finally {
    arrival.close()
  }
}

function shownFinding({ remedy, ...finding }: Report['findings'][number]): ShownFinding {
  if (remedy === undefined) return finding
  // The page gives the remedy its own heading, so drop the word and the indent of the terminal.
  const lines = remedyAsText(remedy).map((line) => line.replace(/^ {2}(?:remedy: )?/, ''))
  return { ...finding, remedy: lines.join('\n') }
}

function bytesGiven(metrics: HttpMetrics): number {
  return metrics.bytes.values.reduce((sum, { labels, value }) => (labels.door === 'peer' ? sum + value : sum), 0)
}
