import { type CheckDependencies, type CheckResult, type CheckSubject, runCheck } from '../containerd/check/run.ts'
import type { Containerd } from '../containerd/client/client.ts'
import type { Settings } from '../settings/settings.ts'
import { upstreamFindings } from './upstreams.ts'

export interface NodeCheckDependencies extends CheckDependencies, Pick<CheckSubject, 'listen' | 'program'> {
  readonly containerd: Containerd
}

/** Checks this node as the settings have it. */
export function createNodeCheck(
  settings: Settings,
  { containerd, listen, program, probe, others, log }: NodeCheckDependencies,
) {
  const client = containerd.in(settings['containerd-namespace'])
  const subject: CheckSubject = {
    socket: settings['containerd-socket'],
    namespace: settings['containerd-namespace'],
    contentRoot: settings['containerd-content'],
    configFile: settings['containerd-config'],
    certsDir: settings['certs-dir'],
    registries: settings.registries && [...settings.registries],
    resolve: settings.resolve,
    listen,
    program,
  }

  const besideContainerd = async (signal: AbortSignal) => {
    const looks = [others(signal), upstreamFindings({ ...settings, listen }, client, signal)]
    return (await Promise.all(looks)).flat()
  }

  /** What answered last, and the connection on which it did. */
  let known: { readonly identity: string; readonly connection: object | undefined } | undefined

  return {
    run: (signal: AbortSignal): Promise<CheckResult> =>
      runCheck({ containerd, probe, others: besideContainerd, log }, subject, signal),
    /** Another answer is another containerd, or the same one after a restart or an upgrade. */
    async identify(signal: AbortSignal): Promise<string> {
      if (known?.connection !== undefined && known.connection === containerd.connection) return known.identity
      const [{ uuid, pid }, { version, revision }] = [await client.server(signal), await client.version(signal)]
      known = { identity: [uuid, pid, version, revision].join(' '), connection: containerd.connection }
      return known.identity
    },
  }
}
