import { stat } from 'node:fs/promises'
import type { ProbeDoor } from '../containerd/check/probe-door.ts'
import { findingAsText, type Report, registerCheckMetrics } from '../containerd/check/report.ts'
import { type CheckDependencies, type CheckResult, type CheckSubject, runCheck } from '../containerd/check/run.ts'
import { createCheckWatch } from '../containerd/check/watch.ts'
import type { Containerd } from '../containerd/client/client.ts'
import { HOSTS_FILES, isRefusal } from '../containerd/hosts/files.ts'
import { registriesToWrite } from '../containerd/hosts/look.ts'
import { mirrorEntryFor } from '../containerd/hosts/mirror-entry.ts'
import { applyChanges, planWrite } from '../containerd/hosts/plan.ts'
import type { Logger } from '../observe/log.ts'
import type { Metrics } from '../observe/metrics.ts'
import type { Readiness } from '../observe/readiness.ts'
import { type Address, ConfigurationError, type Settings } from '../settings/settings.ts'
import { type BootstrapDoors, CLOCK } from './bootstrap-doors.ts'
import { upstreamFindings } from './upstreams.ts'

interface GuardDependencies {
  readonly containerd: Containerd
  /** The registry door, with the port that it got. */
  readonly registry: Address
  /** Answers the check's requests at that door. */
  readonly probeDoor: ProbeDoor
  readonly doors: BootstrapDoors
  /** What starts this program, in a shell. */
  readonly program: string
  readonly readiness: Readiness
  readonly metrics: Metrics
  readonly log: Logger
  /**
   * Called if the first check finds errors, because the person who starts a mirror must see them, and if containerd cannot be
   * reached again before this process restarts.
   */
  readonly onFailure: (error: Error) => void
}

/**
 * Keeps a mirror from running on a node where it would not work. It checks the node as soon as containerd answers, and again
 * after every change.
 */
export function guardNode(settings: Settings, dependencies: GuardDependencies) {
  const { containerd, registry, probeDoor, doors, program, readiness, metrics, log, onFailure } = dependencies
  const probe = settings.probe === 'on' ? { door: probeDoor, open: async () => registry } : '--probe is off'
  // Only the rule for the clock: a wrong swarm key must not end the mirror, and the readiness reports it.
  const others = async (signal: AbortSignal) => CLOCK.judge(await doors.ask(signal))
  const check = createNodeCheck(settings, { containerd, listen: registry, program, probe, others, log })
  const keepHosts = settings['manage-hosts'] === 'on' ? createHostsKeeper(settings, registry, log) : undefined
  let first = true
  const watch = createCheckWatch({
    async run(signal) {
      await keepHosts?.()
      return await check.run(signal)
    },
    async identify(signal) {
      try {
        return await check.identify(signal)
      } catch (error) {
        if (await isRemoved(settings['containerd-socket'])) onFailure(new Error(REMOVED))
        throw error
      }
    },
    readiness,
    log,
    onReport(report) {
      tell(report, log)
      if (first && report.outcome === 'failed') onFailure(new ConfigurationError(problemsOf(report)))
      first = false
    },
  })
  registerCheckMetrics(metrics, () => watch.report)
  return watch
}

const REMOVED = 'containerd removed the socket that is mounted here: this container sees a new one when it starts again'

/**
 * Whether a path leads to a file that has been removed. containerd makes a new socket at each start, but a container with the
 * socket mounted as a single file keeps the old one. Elsewhere the path leads to the new socket, or to none.
 */
async function isRemoved(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.nlink === 0
}

const LEVELS = { error: 'error', warning: 'warn', unknown: 'info', ok: 'debug' } as const

function tell({ outcome, counts, findings }: Report, log: Logger): void {
  for (const { severity, ...finding } of findings) log[LEVELS[severity]]('finding', { severity, ...finding })
  log[outcome === 'failed' ? 'error' : 'info']('checked', { outcome, ...counts })
}

function problemsOf({ findings }: Report): string[] {
  const errors = findings.filter(({ severity }) => severity === 'error')
  return [
    ...errors.map((finding) => findingAsText(finding)),
    'the mirror would not work on this node; `check` prints the whole report',
  ]
}

/**
 * Writes hosts.toml files as `hosts` does, each time that it is called. It logs files that it cannot write; the check that
 * follows judges the files that are there.
 *
 * @param listen the registry door, with the port that it got
 */
export function createHostsKeeper(settings: Settings, listen: Address, log: Logger) {
  const certsDir = settings['certs-dir']
  const mirror = mirrorEntryFor(listen, settings.resolve)
  return async (): Promise<void> => {
    try {
      const { registries } = await registriesToWrite(settings, HOSTS_FILES)
      const { changes, refusals } = await planWrite({ certsDir, mirror, registries }, HOSTS_FILES)
      for (const { path, reason } of refusals) log.warn('hosts.toml left as it is', { path, reason })
      for await (const { change, problem } of applyChanges(changes, HOSTS_FILES)) {
        const { path, action } = change
        if (problem !== undefined) log.error('hosts.toml could not be written', { path, reason: problem })
        else if (action !== 'keep') log.info('hosts.toml written', { path, action })
      }
    } catch (error) {
      if (!isRefusal(error)) throw error
      log.error('hosts.toml could not be written', { error })
    }
  }
}

export interface NodeCheckDependencies extends CheckDependencies, Pick<CheckSubject, 'listen' | 'program'> {
  readonly containerd: Containerd
}

/** Checks this node, as its settings describe it. */
export function createNodeCheck(
  settings: Settings,
  { containerd, listen, program, probe, others, log }: NodeCheckDependencies,
) {
  const client = containerd.in(settings['containerd-namespace'])
  const besideContainerd = async (signal: AbortSignal) => {
    const looks = [others(signal), upstreamFindings({ ...settings, listen }, client, signal)]
    return (await Promise.all(looks)).flat()
  }

  /** The containerd that answered last, and its connection. */
  let known: { readonly identity: string; readonly connection: object | undefined } | undefined

  return {
    run: (signal: AbortSignal): Promise<CheckResult> =>
      runCheck({ containerd, probe, others: besideContainerd, log }, { ...settings, listen, program }, signal),
    /** Identifies containerd: a different answer means another containerd, or the same one after a restart or an upgrade. */
    async identify(signal: AbortSignal): Promise<string> {
      if (known?.connection !== undefined && known.connection === containerd.connection) return known.identity
      const [{ uuid, pid }, { version, revision }] = [await client.server(signal), await client.version(signal)]
      known = { identity: [uuid, pid, version, revision].join(' '), connection: containerd.connection }
      return known.identity
    },
  }
}
