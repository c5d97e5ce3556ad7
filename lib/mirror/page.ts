import manifest from '../../package.json' with { type: 'json' }
import { type Report, remedyAsText } from '../containerd/check/report.ts'
import type { HttpMetrics } from '../http/metrics.ts'
import type { Activity } from '../observe/activity.ts'
import type { Logger } from '../observe/log.ts'
import { runtimeVersion } from '../observe/process-figures.ts'
import type { Readiness } from '../observe/readiness.ts'
import type { Key } from '../oci/key.ts'
import { createHoldings } from '../page/holdings.ts'
import { createPage, type Page } from '../page/page.ts'
import type { ShownFinding, Status } from '../page/status.ts'
import { createTracer, type TracerDependencies } from '../page/trace.ts'
import { bounded } from '../platform/abort.ts'
import { runtimeName } from '../platform/runtime.ts'
import { isLoopback, type Settings } from '../settings/settings.ts'
import type { Members } from '../swarm/members.ts'
import type { Upstreams } from '../upstream/upstreams.ts'

/** Peers that the page lists. */
const LISTED_PEERS = 100
/** Milliseconds that learning the sizes of what came from upstream may hold up a look. */
const LEARNING_TIME = 500

export interface MirrorPageDependencies extends TracerDependencies {
  readonly activity: Activity
  readonly members: Members
  readonly held: ReadonlySet<Key>
  readonly readiness: Readiness
  /** The last report of the check; missing where there is none. */
  readonly report: () => Report | undefined
  readonly upstreams: Upstreams
  readonly metrics: HttpMetrics
  /** The peer door's address as it is announced. */
  readonly address: string
  readonly log: Logger
}

/** Whether the admin door has a page: not beyond loopback, unless somebody has decided so. */
export function showsPage(settings: Pick<Settings, 'page' | 'admin-listen'>): boolean {
  return settings.page === 'on' || (settings.page === 'loopback' && isLoopback(settings['admin-listen'].host))
}

/** The page of a mirror, if its settings allow one: the names of images are not for everybody who reaches the node. */
export function createMirrorPage(settings: Settings, dependencies: MirrorPageDependencies): Page | undefined {
  if (!showsPage(settings)) return undefined
  const { store, known, activity, members, held, readiness, report, upstreams, metrics, address, log } = dependencies
  const holdings = createHoldings({ store, held, log })
  const node = {
    version: `${manifest.name} ${manifest.version}`,
    runtime: `${runtimeName} ${runtimeVersion()}`,
    address,
    store: settings.store.kind === 'containerd' ? 'containerd' : 'OCI image layout',
    startedAt: Date.now(),
  }
  const learn = async (signal: AbortSignal) => {
    try {
      await bounded(LEARNING_TIME, signal, (over) => activity.learn((digest) => store.describe(digest, over)))
    } catch (error) {
      signal.throwIfAborted()
      // A page that says that containerd is away must not need it. The next look asks again.
      log.debug('sizes not known', { error })
    }
  }
  const status = async (signal: AbortSignal): Promise<Status> => {
    await learn(signal)
    const { reasons, notes } = readiness
    const peers = known.peers().sort((a, b) => a.address.localeCompare(b.address))
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
      neighbours: members.size - 1,
      peers: peers.slice(0, LISTED_PEERS),
      morePeers: Math.max(peers.length - LISTED_PEERS, 0),
      held: await holdings(signal),
      totals: activity.totals,
      given: bytesGiven(metrics),
      pulls: activity.pulls,
      names: {},
    }
  }
  const trace = createTracer(dependencies, {
    lookupTimeout: settings['lookup-timeout'],
    resolution: { by: settings.resolve, upstreams },
  })
  return createPage({ status, trace, log })
}

function shownFinding({ remedy, ...finding }: Report['findings'][number]): ShownFinding {
  if (remedy === undefined) return finding
  // Under its own heading it needs neither the word nor the indent that it has in a terminal.
  const lines = remedyAsText(remedy).map((line) => line.replace(/^ {2}(?:remedy: )?/, ''))
  return { ...finding, remedy: lines.join('\n') }
}

function bytesGiven(metrics: HttpMetrics): number {
  return metrics.bytes.values.reduce((sum, { labels, value }) => (labels.door === 'peer' ? sum + value : sum), 0)
}
