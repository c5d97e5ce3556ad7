import { networkInterfaces } from 'node:os'
import type { Logger } from '../observe/log.ts'
import type { Readiness } from '../observe/readiness.ts'
import { type Handler, type Listener, listen, type MutualTls } from '../platform/listen.ts'
import { listenFast } from '../platform/listen-fast.ts'
import { type Address, ConfigurationError, type Settings } from '../settings/settings.ts'
import { joinSwarm } from '../swarm/hyperswarm.ts'
import type { Liveness } from '../swarm/members/membership.ts'
import type { NodeMemory } from '../swarm/node-memory.ts'
import type { SwarmRouter } from '../swarm/swarm-router.ts'

/** How often another port is tried, where any will do but it must be free for TCP and for UDP at once. */
const PORT_ATTEMPTS = 20

interface PeerPortParts {
  readonly handler: Handler
  readonly swarmKeys: readonly [Uint8Array, ...Uint8Array[]]
  readonly tls: MutualTls | undefined
  readonly liveness: Liveness
  readonly readiness: Readiness
}

/** Opens the peer door over TCP and the swarm over UDP on one port number. */
export async function openPeerPort(
  settings: Settings,
  { handler, swarmKeys, tls, liveness, readiness }: PeerPortParts,
  memory: NodeMemory | undefined,
  log: Logger,
): Promise<{ listener: Listener; router: SwarmRouter; advertised: Address }> {
  const { host, port } = settings['peer-listen']
  const advertisedHost = settings['advertise-host'] ?? ownAddress(host)
  for (let attempt = 1; ; attempt++) {
    const listener = await openDoor('peer-listen', { host, port }, handler, log, tls)
    const advertised = { host: advertisedHost, port: listener.port }
    try {
      const router = await joinSwarm(
        { log, memory, liveness, readiness },
        {
          bindHost: host,
          self: advertised,
          bootstrap: settings.bootstrap ?? [],
          swarmKeys,
        },
      )
      return { listener, router, advertised }
    } catch (error) {
      await cut(listener)
      const taken = addressProblem(error)
      if (taken === undefined) throw error
      // The number was free for TCP but not for UDP: any other will do.
      if (port === 0 && attempt < PORT_ATTEMPTS) continue
      throw new ConfigurationError([`--peer-listen ${host}:${listener.port} (UDP): ${taken}`])
    }
  }
}

/** The address by which other nodes reach a socket on `host`: itself, or the first non-internal one of the machine. */
function ownAddress(host: string): string {
  if (host !== '0.0.0.0') return host
  for (const addresses of Object.values(networkInterfaces())) {
    for (const { family, internal, address } of addresses ?? []) {
      if (family === 'IPv4' && !internal) return address
    }
  }
  throw new ConfigurationError([
    '--advertise-host: this machine has no non-internal IPv4 address, so one must be given',
  ])
}

export async function openDoor(
  name: 'listen' | 'peer-listen' | 'admin-listen',
  { host, port }: Address,
  handler: Handler,
  log: Logger,
  tls?: MutualTls,
): Promise<Listener> {
  // containerd needs a broken body to end in its own way; the mirrors that come to the peer door resume by themselves.
  const open = name === 'peer-listen' ? listenFast : listen
  try {
    return await open(handler, {
      host,
      port,
      tls,
      onError: (error, request) => log.error('answer broke off', { door: name, ...request, error }),
    })
  } catch (error) {
    const problem = addressProblem(error)
    throw problem === undefined ? error : new ConfigurationError([`--${name} ${host}:${port}: ${problem}`])
  }
}

/** What is wrong with an address, if that is what the system's error says. */
function addressProblem(error: unknown): string | undefined {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'EADDRINUSE':
      return 'the address is in use'
    case 'EADDRNOTAVAIL':
    // What node:http of Deno 2.9 makes of it.
    case 'EINVAL':
      return 'this machine has no such address'
    case 'EACCES':
    case 'EPERM':
      return 'not permitted to use this address'
    default:
      return undefined
  }
}

export async function cut(listener: Listener): Promise<void> {
  await listener.close(AbortSignal.abort())
}
