import { arch } from 'node:os'
import { PROGRAMS, type ProgramName } from '../../fixtures/programs.ts'
import { Daemon } from './daemon.ts'
import type { Namespace } from './namespace.ts'

/** The doors of every mirror. Each mirror is alone in its namespace, so all use the default ports. */
export const REGISTRY_DOOR = 'http://127.0.0.1:5000'
export const ADMIN_DOOR = 'http://127.0.0.1:5002'
export const PEER_PORT = 5001

/**
 * How long a request may look for peers. Far above the default of 100 ms, since these tests are about what is found and all
 * nodes share two cores; far below containerd's patience.
 */
const LOOKUP_TIMEOUT = '2000ms'

export type Runtime = ProgramName

/** The runtime named by the environment variable E2E_RUNTIME, or Node. */
export function defaultRuntime(): Runtime {
  const name = process.env.E2E_RUNTIME ?? 'node'
  if (!Object.hasOwn(PROGRAMS, name)) {
    throw new Error(`E2E_RUNTIME=${name}: expected one of ${Object.keys(PROGRAMS).join(', ')}`)
  }
  return name as Runtime
}

/** Flags of the mirror by name without the dashes; `undefined` omits one that the harness would set. */
export type MirrorFlags = Readonly<Record<string, string | undefined>>

/** Where a node's peer door and swarm are. */
export function peerAddress(namespace: Namespace): string {
  return `${namespace.address}:${PEER_PORT}`
}

/** The flags that every mirror of a cluster gets. */
export function defaultFlags(namespace: Namespace, swarmKey: string): MirrorFlags {
  return {
    listen: new URL(REGISTRY_DOOR).host,
    'admin-listen': new URL(ADMIN_DOOR).host,
    'peer-listen': peerAddress(namespace),
    'advertise-host': namespace.address,
    'swarm-key': swarmKey,
    'lookup-timeout': LOOKUP_TIMEOUT,
    'log-level': 'debug',
  }
}

/** Makes (and does not start) a mirror. It is ready when it says so in its log. */
export function createMirror(
  namespace: Namespace,
  options: {
    /** The node's name. */
    readonly node: string
    readonly logDirectory: string
    readonly runtime: Runtime
    /** Called at every start. */
    readonly flags: () => MirrorFlags
  },
): Daemon {
  const [command, ...args] = PROGRAMS[options.runtime]
  return new Daemon({
    name: 'mirror',
    title: `the mirror of ${options.node} on ${options.runtime}`,
    namespace,
    logDirectory: options.logDirectory,
    command,
    args: () => [...args, 'serve', ...toArguments(options.flags())],
    ready: (daemon) => logLines(daemon).some(({ event }) => event === 'ready'),
  })
}

/** The lines that a mirror has logged since its last start, without a line that is not complete yet. */
export function logLines(mirror: Daemon): { event?: unknown; [field: string]: unknown }[] {
  const lines = mirror.output('stderr').split('\n').slice(0, -1)
  return lines.flatMap((line) => (line.startsWith('{') ? [JSON.parse(line)] : []))
}

function toArguments(flags: MirrorFlags): string[] {
  return Object.entries(flags).flatMap(([name, value]) => (value === undefined ? [] : [`--${name}`, value]))
}

/** The OCI platform of this machine, such as `linux/amd64`. */
export function hostPlatform(): string {
  return `linux/${{ x64: 'amd64', arm64: 'arm64' }[arch() as 'x64' | 'arm64'] ?? arch()}`
}
