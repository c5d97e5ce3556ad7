import type { Door } from '../http/door.ts'
import { boundedLog, type Logger } from '../observe/log.ts'
import { PeerError } from '../peers/error.ts'
import { addressOf } from '../platform/address.ts'
import { listen } from '../platform/listen.ts'
import type { Handler, Listener, MutualTls, NewcomerBounds } from '../platform/listener.ts'
import { BodyError } from '../platform/send.ts'
import { type Address, ConfigurationError, type Settings } from '../settings/settings.ts'
import { ArrivalError } from '../store/arrival.ts'
import { joinSwarm, type SwarmDependencies } from '../swarm/swarm.ts'
import { ipv4Addresses } from './own-address.ts'

/** How many ports to try if any will do: the port must be free for both TCP and UDP. */
const PORT_ATTEMPTS = 20

/**
 * A node may begin by asking for some fifty blobs at once, and several nodes may share an address. With TLS a connection takes
 * up to 60 KiB. A member shows its capability with its first packets after the handshake.
 */
const NEWCOMERS: NewcomerBounds = { most: 1_024, mostPerAddress: 128, time: 5_000 }

/**
 * Milliseconds in which a node must take a chunk from the peer door. One that takes nothing for longer is frozen or cut off, and
 * must not keep a place. If it lives, it asks for the rest again when its client wants more.
 */
const PEER_WRITE_TIMEOUT = 60_000

export interface PeerPortParts {
  /** Makes the door for its announced address: capabilities are good for that address alone. */
  peerDoorAt(address: string): Door
  readonly tls: MutualTls | undefined
  readonly swarm: SwarmDependencies
  readonly swarmKeys: readonly [Uint8Array, ...Uint8Array[]]
}

/**
 * Opens the peer door over TCP and joins the swarm over UDP, on the same port number. Adds both to `parts`, which closes them.
 *
 * @returns among others `self`, the address at which other nodes reach the door and this node of the swarm
 * @throws {ConfigurationError} if the address cannot be used
 */
export async function openPeerPort(
  settings: Settings,
  { peerDoorAt, tls, swarm, swarmKeys }: PeerPortParts,
  parts: AsyncDisposableStack,
) {
  const { host, port } = settings['peer-listen']
  const advertisedHost = settings['advertise-host'] ?? ownAddress(host)
  for (let attempt = 1; ; attempt++) {
    const answer: Handler = (request, admission) => door.fetch(request, admission)
    const peer = await openDoor('peer-listen', { host, port }, answer, swarm.log, tls)
    const self = { host: advertisedHost, port: peer.port }
    // This comes early enough: no request comes before the next turn of the event loop.
    const door = peerDoorAt(addressOf(self))
    try {
      const options = { bindHost: host, self, bootstrap: settings.bootstrap ?? [], swarmKeys }
      const router = await joinSwarm(swarm, options)
      parts.defer(() => cut(peer))
      parts.defer(() => router.close())
      return { peer, router, self }
    } catch (error) {
      await cut(peer)
      const problem = addressProblem(error)
      if (problem === undefined) throw error
      // The port was free for TCP but not for UDP, so try another one.
      if (port === 0 && attempt < PORT_ATTEMPTS) continue
      throw new ConfigurationError([`--peer-listen ${host}:${peer.port} (UDP): ${problem}`])
    }
  }
}

/** The address by which other nodes reach a socket on `host`: `host` itself, or the machine's first non-internal address. */
function ownAddress(host: string): string {
  if (host !== '0.0.0.0') return host
  const own = ipv4Addresses().find(({ internal }) => !internal)
  if (own !== undefined) return own.address
  throw new ConfigurationError(['--advertise-host: this machine has no non-internal IPv4 address: give one'])
}

/** @throws {ConfigurationError} if the address cannot be used */
export async function openDoor(
  name: 'listen' | 'peer-listen' | 'admin-listen' | 'metrics-listen',
  { host, port }: Address,
  handler: Handler,
  log: Logger,
  tls?: MutualTls,
): Promise<Listener> {
  const bounded = boundedLog(log)
  try {
    return await listen(handler, {
      host,
      port,
      tls,
      ...(name === 'peer-listen' && { newcomers: NEWCOMERS, writeTimeout: PEER_WRITE_TIMEOUT }),
      onError(error, request) {
        const fields = { door: name, ...request, error }
        if (isForeseen(error)) bounded.info('answer ended early', fields)
        else bounded.error('answer broke off', fields)
      },
    })
  } catch (error) {
    const problem = addressProblem(error)
    throw problem === undefined ? error : new ConfigurationError([`--${name} ${host}:${port}: ${problem}`])
  }
}

/**
 * Whether a body ended early without any fault of this node: containerd gave up the download that a follower was getting, or no
 * peer is left for the rest. The client gets the rest elsewhere.
 */
function isForeseen(error: unknown): boolean {
  const cause = error instanceof BodyError ? error.cause : undefined
  return cause instanceof PeerError || (cause instanceof ArrivalError && cause.cause === undefined)
}

const ADDRESS_PROBLEMS: Readonly<Record<string, string>> = {
  EADDRINUSE: 'the address is in use',
  EADDRNOTAVAIL: 'this machine has no such address',
  // Deno 2.9 reports EADDRNOTAVAIL so.
  EINVAL: 'this machine has no such address',
  EACCES: 'not permitted to use this address',
  EPERM: 'not permitted to use this address',
}

/** The problem with an address; `undefined` if the error is about something else. */
export function addressProblem(error: unknown): string | undefined {
  return ADDRESS_PROBLEMS[(error as NodeJS.ErrnoException).code ?? '']
}

/** Closes a door at once, and cuts the requests that run. */
export async function cut(listener: Listener): Promise<void> {
  await listener.close(AbortSignal.abort())
}
