import { createSocket } from 'node:dgram'
import { createServer } from 'node:net'
import { createProbeDoor, type ProbeDoor } from '../containerd/check/probe-door.ts'
import { reportAsJson, reportAsText } from '../containerd/check/report.ts'
import { findingsOf, rule } from '../containerd/rule.ts'
import { CLOCK, createBootstrapDoors, DOOR_RULES } from '../mirror/bootstrap-doors.ts'
import { addressProblem, cut } from '../mirror/doors.ts'
import { createLogger } from '../observe/log.ts'
import { paintFor } from '../observe/paint.ts'
import { bounded } from '../platform/abort.ts'
import { listen } from '../platform/listen.ts'
import { readCommandLine } from '../settings/read.ts'
import { type Address, ConfigurationError, doorsOf, hostOf } from '../settings/settings.ts'
import { type Command, programText } from './command.ts'

/** Milliseconds to wait for the admin door of a mirror on this node. */
const ADMIN_TIMEOUT = 2_000

/** Any port on loopback. */
const ANY: Address = { host: '127.0.0.1', port: 0 }

const SWITCHES = { json: 'print the report as JSON, for machines' }

/** Says whether a mirror with these settings would work on this node, and what to change if not. */
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
    const ports = await lookAtPorts(doorsOf(settings), () => runsHere(settings['admin-listen'], stop))
    await using parts = new AsyncDisposableStack()
    const doors = parts.adopt(createBootstrapDoors(settings), (made) => made.close())
    const found = [...findingsOf([CLOCK, ...DOOR_RULES], await doors.ask(stop)), ...PORTS.judge(ports)]
    const door = createProbeDoor()
    const { listen } = settings
    const open = (registryDoor: boolean) => openProbeDoor(door, registryDoor ? listen : { ...listen, port: 0 }, parts)
    const probe = settings.probe === 'on' ? { door, open } : '--probe is off'
    // Loaded only here, because the other commands do not need gRPC.
    const { connectContainerd } = await import('../containerd/client/client.ts')
    const { createNodeCheck } = await import('../mirror/guard.ts')
    const containerd = parts.adopt(connectContainerd(settings['containerd-socket']), (made) => made.close())
    const program = programText(context)
    const node = createNodeCheck(settings, { containerd, listen, program, probe, others: async () => found, log })
    const result = await node.run(stop)
    const asText = () => reportAsText(result.report, terminal.output ? paintFor(true, environment) : undefined)
    print(switches.json ? reportAsJson(result.report) : asText())
    // The report has already been printed.
    if (result.report.outcome === 'failed') throw new ConfigurationError([])
  },
}

/** Whether a mirror answers at the admin door. Then it is the one that uses the ports. */
async function runsHere({ host, port }: Address, stop: AbortSignal): Promise<boolean> {
  const ask = async (signal: AbortSignal) => {
    const answer = await fetch(`http://${hostOf(host)}:${port}/livez`, { signal })
    return (await answer.text()) === 'alive\n'
  }
  // If the answer is refused, cut off or too late, no working mirror is there.
  return await bounded(ADMIN_TIMEOUT, stop, ask).catch(() => false)
}

/** Opens the door at that address if it is free, otherwise at any port on loopback. */
async function openProbeDoor(door: ProbeDoor, wanted: Address, parts: AsyncDisposableStack): Promise<Address> {
  const notHere = { status: 404, headers: { 'Content-Length': '0' } }
  const answer = (request: Request) => door.fetch(request) ?? new Response(null, notHere)
  const open = ({ host, port }: Address) => listen(answer, { host, port, onError: () => undefined })
  return parts.adopt(await open(wanted).catch(() => open(ANY)), cut)
}

/** Which addresses of the mirror cannot be used, and whether a mirror on this node uses them. */
interface PortUse {
  /** In words, with the flag of each. */
  readonly taken: readonly string[]
  readonly runsHere: boolean
}

/**
 * Tries to use the addresses of the mirror's doors.
 *
 * @param runsHere whether a mirror answers at its admin door; called last, because a mirror that starts opens that door last
 */
export async function lookAtPorts(
  doors: ReturnType<typeof doorsOf>,
  runsHere: () => Promise<boolean>,
): Promise<PortUse> {
  const taken: string[] = []
  for (const { flag, host, port } of doors) {
    for (const protocol of flag === 'peer-listen' ? (['TCP', 'UDP'] as const) : (['TCP'] as const)) {
      const problem = await tryToBind(host, port, protocol)
      if (problem !== undefined) taken.push(`--${flag} ${host}:${port} (${protocol}): ${problem}`)
    }
  }
  return { taken, runsHere: taken.length > 0 && (await runsHere()) }
}

/** Why the address cannot be used, in words; `undefined` if it can. */
function tryToBind(host: string, port: number, protocol: 'TCP' | 'UDP'): Promise<string | undefined> {
  return new Promise((resolve) => {
    const socket = protocol === 'TCP' ? createServer() : createSocket('udp4')
    socket.once('error', (error) => {
      socket.close()
      resolve(addressProblem(error) ?? error.message)
    })
    const close = () => socket.close(() => resolve(undefined))
    if ('listen' in socket) socket.listen({ host, port, exclusive: true }, close)
    else socket.bind({ address: host, port, exclusive: true }, close)
  })
}

/** The rule for ports. A running mirror cannot use it, because it would find its own doors in use. */
export const PORTS = rule({
  id: 'ports',
  reads: (use: PortUse) => use,
  judges({ taken, runsHere }) {
    if (taken.length === 0) return { severity: 'ok', seen: 'the addresses of all doors are free' }
    if (runsHere) return { severity: 'ok', seen: 'a mirror runs here, and answers at its admin door' }
    return { severity: 'error', seen: taken.join('; ') }
  },
  expected: 'the addresses of the doors are free, or this node’s own mirror uses them',
  why: 'the mirror does not start without its doors',
  remedy: () => ({ text: 'stop whatever uses the address (`ss -tulpn` names it), or give the door another one' }),
})
