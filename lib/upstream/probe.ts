import { promises as dns, type LookupAddress } from 'node:dns'
import { BlockList, connect, isIP, isIPv6, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { bounded, onAbort, unlessAborted } from '../platform/abort.ts'
import { bare, createProxyChoice, type ProxySettings } from './proxy.ts'

/** A host that containerd asks for a registry after the mirror. */
export interface UpstreamHost {
  /** The base of its API, such as `https://registry-1.docker.io/v2`. */
  readonly url: string
  /** Whether hosts.toml names the host. Then it may have any address; otherwise a client of the mirror may have named it. */
  readonly isNamed: boolean
  /** Authorities, in PEM. One of them must have signed the host's certificate. */
  readonly ca?: readonly string[] | undefined
  /** Certificates and keys of the client, in PEM. */
  readonly cert?: readonly string[] | undefined
  readonly key?: readonly string[] | undefined
}

/** `answers`: the host answers, even with an error below 500. `silent`: it does not. `unasked`: it may not be asked. */
export interface ProbeResult {
  readonly state: 'answers' | 'silent' | 'unasked'
  /** The reason for the state, in words. */
  readonly reason: string
}

/**
 * Asks a host of a registry whether it answers.
 *
 * @param isKnown whether this node's configuration or images name the registry, and not only a client
 * @param time milliseconds
 */
export type Probe = (host: UpstreamHost, isKnown: boolean, time: number, signal: AbortSignal) => Promise<ProbeResult>

/** How many addresses of a name are tried; each gets its share of the time. */
const MOST_ADDRESSES = 4
/** Bytes of a head after which its first line must be enough. */
const LONGEST_HEAD = 4_096
/**
 * How many names are looked up at the same time, for known registries and for others, which must not block the known ones. On
 * Node each lookup takes one of four threads, which files need as well, and keeps it as long as the system's resolver waits for
 * a silent server.
 */
const MOST_LOOKUPS = { known: 2, others: 1 } as const

/** Thrown if a host may not be asked, with the reason. */
class Unasked extends Error {}

type Lookup = (name: string, signal: AbortSignal) => Promise<string[]>

/** Returns the addresses that this node may connect to; throws {@link Unasked} if there are none. */
type Guard = (addresses: readonly string[]) => readonly string[]

/**
 * Makes a probe that sends `GET <base>/` without credentials and looks at the first line of the answer.
 *
 * Without `ca` the certificate is not verified. containerd verifies it with the authorities of its machine, which this process
 * may not see. The probe sends nothing secret and uses nothing of the answer.
 */
export function createProbe(settings: ProxySettings): Probe {
  const proxyFor = createProxyChoice(settings)
  const lookupKnown = createLookup(MOST_LOOKUPS.known)
  const lookupOther = createLookup(MOST_LOOKUPS.others)

  /** Connects to a host or its proxy, at the first address that accepts the connection. */
  async function dial(
    { hostname, port, protocol }: URL,
    { lookup, guard }: { readonly lookup: Lookup; readonly guard: Guard },
    time: number,
    signal: AbortSignal,
  ) {
    const name = bare(hostname)
    const addresses = guard(isIP(name) === 0 ? await lookup(name, signal) : [name]).slice(0, MOST_ADDRESSES)
    const target = { port: Number(port) || (protocol === 'https:' ? 443 : 80) }
    let failure: unknown
    for (const host of addresses) {
      try {
        const open = (over: AbortSignal) => opened(connect({ host, ...target }), 'connect', over)
        return await bounded(time / addresses.length, signal, open)
      } catch (error) {
        signal.throwIfAborted()
        failure = error
      }
    }
    throw failure
  }

  async function ask(host: UpstreamHost, lookup: Lookup, time: number, sockets: DisposableStack, signal: AbortSignal) {
    const url = new URL(`${host.url}/`)
    const isSecure = url.protocol === 'https:'
    const name = bare(url.hostname)
    const guard: Guard = (addresses) => {
      const allowed = addresses.filter((address) => host.isNamed || !isReserved(address))
      if (allowed.length === 0) throw new Unasked(`${name} is a reserved address, and no hosts.toml names it`)
      return allowed
    }
    const proxy = proxyFor(url)
    if (proxy !== undefined && proxy.protocol !== 'http:')
      throw new Unasked(`it is behind a proxy of ${proxy.protocol}`)
    // The proxy looks up names itself.
    if (isIP(name) !== 0) guard([name])
    const direct = { lookup, guard }
    const way =
      proxy === undefined ? direct : { lookup: lookupKnown, guard: (addresses: readonly string[]) => addresses }
    let socket = await dial(proxy ?? url, way, time, signal)
    sockets.defer(() => socket.destroy())
    const login = `${decodeURIComponent(proxy?.username ?? '')}:${decodeURIComponent(proxy?.password ?? '')}`
    const forProxy = login === ':' ? '' : `Proxy-Authorization: Basic ${Buffer.from(login).toString('base64')}\r\n`
    if (proxy !== undefined && isSecure) {
      const target = `${url.hostname}:${url.port || 443}`
      const status = await statusOf(socket, `CONNECT ${target} HTTP/1.1\r\nHost: ${target}\r\n${forProxy}`, signal)
      if (status === 407) throw new Unasked('its proxy demands a login')
      if (status >= 300) return { state: 'silent', reason: `the proxy answers ${status}` } as const
    }
    if (isSecure) {
      const { ca, cert, key } = host
      const trust = {
        ca: ca && [...ca],
        cert: cert && [...cert],
        key: key && [...key],
        rejectUnauthorized: ca !== undefined,
      }
      const names = { host: name, servername: isIP(name) === 0 ? name : '' }
      const plain = socket
      sockets.defer(() => plain.destroy())
      socket = await opened(
        connectTls({ ...trust, ...names, ALPNProtocols: ['http/1.1'], socket }),
        'secureConnect',
        signal,
      )
    }
    const isAbsolute = proxy !== undefined && !isSecure
    const line = `GET ${isAbsolute ? url.href : url.pathname} HTTP/1.1\r\nHost: ${url.host}\r\n`
    const rest = 'User-Agent: swarmirror\r\nAccept: */*\r\nConnection: close\r\n'
    const status = await statusOf(socket, `${line}${rest}${isAbsolute ? forProxy : ''}`, signal)
    return { state: status < 500 ? 'answers' : 'silent', reason: `it answers ${status}` } as const
  }

  return async (host, isKnown, time, signal) => {
    const lookup = isKnown ? lookupKnown : lookupOther
    using sockets = new DisposableStack()
    try {
      return await bounded(time, signal, (over) => ask(host, lookup, time, sockets, over))
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof Unasked) return { state: 'unasked', reason: error.message }
      if (!(error instanceof Error)) throw error
      const { name, message } = error
      return { state: 'silent', reason: name === 'TimeoutError' ? `no answer within ${time} ms` : message }
    }
  }
}

/** Looks up names with the system's resolver: a few at a time, and each name only once at a time. IPv4 comes first. */
function createLookup(most: number): Lookup {
  const running = new Map<string, Promise<LookupAddress[]>>()
  return async (name, signal) => {
    while (!running.has(name) && running.size >= most) {
      await unlessAborted(Promise.race([...running.values()].map((looking) => looking.catch(() => []))), signal)
    }
    const looking = running.get(name) ?? dns.lookup(name, { all: true }).finally(() => running.delete(name))
    running.set(name, looking)
    const found = await unlessAborted(looking, signal)
    return found.toSorted((a, b) => a.family - b.family).map(({ address }) => address)
  }
}

/** Waits until a socket is open; destroys it if it does not open in time. */
async function opened(socket: Socket, event: 'connect' | 'secureConnect', signal: AbortSignal): Promise<Socket> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  using _ = onAbort(signal, () => reject(signal.reason))
  socket.once(event, resolve)
  // This listener stays, because a later error without a listener would end the process.
  socket.on('error', reject)
  socket.once('close', () => reject(new Error('the connection was closed')))
  try {
    await promise
    return socket
  } catch (error) {
    socket.destroy()
    throw error
  }
}

/**
 * Sends a GET or CONNECT and returns the status of the answer. It waits for the whole head, because after a CONNECT another
 * protocol follows.
 */
async function statusOf(socket: Socket, head: string, signal: AbortSignal): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  using _ = onAbort(signal, () => reject(signal.reason))
  let answer = ''
  const read = (chunk: Buffer) => {
    answer += chunk.toString('latin1')
    const [, status] = /^HTTP\/1\.[01] (\d{3})\b/.exec(answer) ?? []
    const isWhole = answer.includes('\r\n\r\n') || answer.length > LONGEST_HEAD
    if (isWhole && status !== undefined) resolve(Number(status))
    else if (isWhole) reject(new Error('the answer is not HTTP'))
  }
  const closed = () => reject(new Error('the connection was closed before an answer'))
  socket.on('data', read)
  // An error comes before `close`. The listener of `opened` keeps it from ending the process; this one ends the waiting.
  socket.once('error', reject)
  socket.once('close', closed)
  socket.write(`${head}\r\n`)
  try {
    return await promise
  } finally {
    socket.off('data', read)
    socket.off('close', closed)
  }
}

/**
 * Addresses that no registry of a cluster has, but something else may: this host, its link (where clouds serve credentials),
 * multicast, documentation, benchmarks, unassigned networks (the IANA's special-purpose registries for IPv4 and IPv6). Private
 * networks are not listed, because registries are there.
 */
const RESERVED = [
  ...['0.0.0.0/8', '127.0.0.0/8', '169.254.0.0/16', '192.0.0.0/24', '192.0.2.0/24', '192.88.99.0/24', '198.18.0.0/15'],
  ...['198.51.100.0/24', '203.0.113.0/24', '224.0.0.0/3'],
  ...['::/96', '64:ff9b:1::/48', '100::/64', '2001::/23', '2001:db8::/32', '2002::/16', 'fe80::/9', 'ff00::/8'],
] as const

const LIST = new BlockList()
for (const network of RESERVED) {
  const [address = '', bits] = network.split('/')
  LIST.addSubnet(address, Number(bits), isIPv6(address) ? 'ipv6' : 'ipv4')
  // The same network through NAT64 (RFC 6052), as nodes without IPv4 reach it.
  if (!isIPv6(address)) LIST.addSubnet(`64:ff9b::${address}`, 96 + Number(bits), 'ipv6')
}

/** Whether an address is one that no registry can have. An IPv4 address mapped into IPv6 counts as IPv4. */
export function isReserved(address: string): boolean {
  return LIST.check(address, isIPv6(address) ? 'ipv6' : 'ipv4')
}
