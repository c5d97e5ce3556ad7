import { createProbeDoor } from '../containerd/check/probe-door.ts'
import { reportAsJson, reportAsText } from '../containerd/check/report.ts'
import { findingsOf } from '../containerd/rule.ts'
import { CLOCK, createBootstrapDoors, DOOR_RULES } from '../mirror/bootstrap-doors.ts'
import { createLogger } from '../observe/log.ts'
import { paintFor } from '../observe/paint.ts'
import { bounded } from '../platform/abort.ts'
import { listen } from '../platform/listen.ts'
import { readCommandLine } from '../settings/read.ts'
import { type Address, ConfigurationError, hostOf, type Settings } from '../settings/settings.ts'
import { type Command, programText } from './command.ts'
import { lookAtPorts, PORTS, type PortToCheck } from './ports.ts'

/** Longest wait in milliseconds for the admin door of a mirror on this node. */
const ADMIN_TIMEOUT = 2_000

/** Any address by which this machine reaches itself. */
const ANY: Address = { host: '127.0.0.1', port: 0 }

const SWITCHES = { json: 'print the report as JSON, for machines' }

/** Tells whether a mirror with these settings would work on this node, and what to change if not. */
export const check: Command = {
  name: 'check',
  summary: 'tell whether this node is configured for the mirror, and which lines to change if it is not',
  example: '--json',
  switches: SWITCHES,
  settings: [
    ...(['listen', 'peer-listen', 'admin-listen', 'metrics-listen', 'advertise-host', 'bootstrap'] as const),
    ...(['swarm-key', 'swarm-key-file', 'containerd-socket', 'containerd-namespace', 'containerd-content'] as const),
    ...(['containerd-config', 'certs-dir', 'probe', 'registries', 'resolve', 'upstream-timeout'] as const),
    ...(['http-proxy', 'https-proxy', 'no-proxy', 'peer-transfer', 'log-level'] as const),
  ],
  async run(context) {
    const { args, environment, print, report, stop, terminal } = context
    const sources = { flags: args, environment, opensDoors: false, readsKey: true }
    const { settings, switches } = readCommandLine(sources, SWITCHES)
    if (settings.store.kind !== 'containerd') {
      throw new ConfigurationError(['check looks at containerd, and --store oci-layout does without it'])
    }
    const log = createLogger(report, settings['log-level'] === 'info' ? 'warn' : settings['log-level'])
    const ports = await lookAtPorts(portsOf(settings), () => runsHere(settings['admin-listen'], stop))
    await using parts = new AsyncDisposableStack()
    const doors = createBootstrapDoors(settings)
    parts.defer(() => doors.close())
    const found = [...(await findingsOf([CLOCK, ...DOOR_RULES], await doors.ask(stop))), ...(await PORTS.judge(ports))]
    const door = createProbeDoor()
    const { listen } = settings
    const open = (registryDoor: boolean) =>
      openProbeDoor(
        registryDoor ? listen : { ...listen, port: 0 },
        (request) => door.fetch(request) ?? notHere(),
        parts,
      )
    const probe = settings.probe === 'on' ? { door, open } : '--probe is off'
    // Loaded here, since the other commands do without gRPC.
    const { connectContainerd } = await import('../containerd/client/client.ts')
    const { createNodeCheck } = await import('../mirror/node-check.ts')
    const containerd = connectContainerd(settings['containerd-socket'])
    parts.defer(() => containerd.close())
    const program = programText(context)
    const node = createNodeCheck(settings, { containerd, listen, program, probe, others: async () => found, log })
    const result = await node.run(stop)
    const asText = () => reportAsText(result.report, terminal.output ? paintFor(true, environment) : undefined)
    print(switches.json ? reportAsJson(result.report) : asText())
    // What there is to say has been said.
    if (result.report.outcome === 'failed') throw new ConfigurationError([])
  },
}

function portsOf(settings: Settings): PortToCheck[] {
  const metrics = settings['metrics-listen']
  return [
    { flag: 'listen', ...settings.listen },
    { flag: 'peer-listen', ...settings['peer-listen'], udp: true },
    { flag: 'admin-listen', ...settings['admin-listen'] },
    ...(metrics === undefined ? [] : [{ flag: 'metrics-listen' as const, ...metrics }]),
  ]
}

/** Whether a mirror answers at the admin door: then it is the one that uses the ports. */
async function runsHere({ host, port }: Address, stop: AbortSignal): Promise<boolean> {
  const ask = async (signal: AbortSignal) => {
    const answer = await fetch(`http://${hostOf(host)}:${port}/livez`, { signal })
    return (await answer.text()) === 'alive\n'
  }
  // Refused, cut off or too late: it is not a mirror that works.
  return await bounded(ADMIN_TIMEOUT, stop, ask).catch(() => false)
}

/** Opens a door at that address if nobody has it, else at any of loopback's. */
async function openProbeDoor(
  wanted: Address,
  handler: (request: Request) => Response,
  parts: AsyncDisposableStack,
): Promise<Address> {
  const open = ({ host, port }: Address) => listen(handler, { host, port, onError: () => undefined })
  const listener = await open(wanted).catch(() => open(ANY))
  parts.defer(async () => {
    await listener.close(AbortSignal.abort())
  })
  return listener
}

function notHere(): Response {
  return new Response(null, { status: 404, headers: { 'Content-Length': '0' } })
}
