import { networkInterfaces } from 'node:os'
import { type CheckResult, type CheckSubject, type ProbeService, runCheck } from '../containerd/check/run.ts'
import type { Containerd } from '../containerd/client/client.ts'
import type { Finding } from '../containerd/rule.ts'
import type { Logger } from '../observe/log.ts'
import { PeerClient } from '../peers/client.ts'
import { createTlsIdentity } from '../peers/tls.ts'
import { bounded } from '../platform/abort.ts'
import type { Settings } from '../settings/settings.ts'
import { resolveBootstrap } from '../swarm/members/bootstrap.ts'
import { CLOCK, compareClocks, timeOf } from './peer-time.ts'
import { upstreamFindings } from './upstreams.ts'

/** Checks this node as the settings have it. */
export interface NodeCheck {
  run(signal: AbortSignal): Promise<CheckResult>
  /** Another answer is another containerd, or the same one after a restart or an upgrade. */
  identify(signal: AbortSignal): Promise<string>
  close(): void
}

export interface NodeCheckDependencies {
  readonly containerd: Containerd
  /** The address that containerd is told for the registry door. */
  readonly listen: CheckSubject['listen']
  /** What starts this program, in a shell. */
  readonly program: string
  /** The door that serves probes; the reason in words if there is none. */
  readonly probe: ProbeService | string
  /** What was looked at already. */
  readonly found?: readonly Finding[]
  readonly log: Logger
}

/** How many nodes are asked for their time, and how long finding and asking each may take, in milliseconds. */
const CLOCKS = 3
const CLOCK_TIMEOUT = 2_000

export function createNodeCheck(
  settings: Settings,
  { containerd, listen, program, probe, found = [], log }: NodeCheckDependencies,
): NodeCheck {
  const client = containerd.in(settings['containerd-namespace'])
  const swarmKeys = settings['swarm-key']
  const secure = settings['peer-transfer'] === 'tls' && swarmKeys !== undefined
  const peerClient = new PeerClient({
    headTimeout: CLOCK_TIMEOUT,
    tls: secure ? createTlsIdentity(swarmKeys) : undefined,
  })
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

  async function clockFindings(signal: AbortSignal): Promise<readonly Finding[]> {
    const own = ownAddresses()
    const self = { host: settings['advertise-host'] ?? '127.0.0.1', port: settings['peer-listen'].port }
    // The bootstrap list is of the doors' port numbers as well: a node's door and its swarm share one.
    const known = await bounded(CLOCK_TIMEOUT, signal, (bound) =>
      resolveBootstrap({}, settings.bootstrap ?? [], self, bound),
    )
    const others = known.filter(({ host, port }) => !(own.has(host) && port === self.port))
    const asks = others.slice(0, CLOCKS).map((peer) => (signal: AbortSignal) => timeOf(peerClient, peer, signal))
    return await CLOCK.judge(await compareClocks(asks, signal))
  }

  const others = async (signal: AbortSignal) => {
    const looks = [clockFindings(signal), upstreamFindings({ ...settings, listen }, client, signal)]
    return [...(await Promise.all(looks)).flat(), ...found]
  }

  return {
    run: (signal) => runCheck({ containerd, probe, others, log }, subject, signal),
    async identify(signal) {
      const [{ uuid, pid }, { version, revision }] = [await client.server(signal), await client.version(signal)]
      return [uuid, pid, version, revision].join(' ')
    },
    close: () => peerClient.close(),
  }
}

function ownAddresses(): ReadonlySet<string> {
  return new Set(Object.values(networkInterfaces()).flatMap((all) => (all ?? []).map(({ address }) => address)))
}
