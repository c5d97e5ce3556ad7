import { promises as dns, type LookupAddress } from 'node:dns'
import { open } from 'node:fs/promises'
import { type IncomingMessage, type OutgoingHttpHeaders, request } from 'node:http'
import { connect, isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { bounded, onAbort, unlessAborted } from '../platform/abort.ts'
import { bare, createProxyChoice, inNetworks, type ProxySettings } from './proxy.ts'

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
/**
 * How many names are looked up at the same time, for known registries and for others, which must not block the known ones. On
 * Node each lookup takes one of four threads, which files need as well, and keeps it as long as the system's resolver waits for
 * a silent server.
 */
const MOST_LOOKUPS = { known: 2, others: 1 } as const

/** Thrown if a host may not be asked, with the reason. */
class Unasked extends Error {}

type Lookup = (name: string, signal: AbortSignal) => Promise<readonly string[]>

/**
 * Makes a probe that sends `GET <base>/` without credentials and looks at the status of the answer.
 *
 * Without `ca` the certificate is not verified. containerd verifies it with the authorities of its machine, which this process
 * may not see. The probe sends nothing secret and uses nothing of the answer.
 */
export function createProbe(settings: ProxySettings): Probe {
  const proxyFor = createProxyChoice(settings)
  const lookupKnown = createLookup(MOST_LOOKUPS.known)
  const lookupOther = createLookup(MOST_LOOKUPS.others)

  async function ask(host: UpstreamHost, isKnown: boolean, time: number, signal: AbortSignal): Promise<ProbeResult> {
    const url = new URL(`${host.url}/`)
    const isSecure = url.protocol === 'https:'
    const name = bare(url.hostname)
    const allowed = (addresses: readonly string[]) => {
      const open = addresses.filter((address) => host.isNamed || !isReserved(address))
      if (open.length === 0) throw new Unasked(`${name} is a reserved address, and no hosts.toml names it`)
      return open
    }
    const lookup: Lookup = async (name) => allowed(await (isKnown ? lookupKnown : lookupOther)(name, signal))
    const proxy = proxyFor(url)
    if (proxy !== undefined && proxy.protocol !== 'http:')
      throw new Unasked(`it is behind a proxy of ${proxy.protocol}`)
    if (isIP(name) !== 0) allowed([name])

    using sockets = new DisposableStack()
    // Requests report errors. Those that come later, when nobody waits any more, must not end the process.
    const kept = <S extends Socket>(socket: S): S =>
      sockets.adopt(socket.on('error', ignored), (over) => over.destroy())
    // The proxy looks up names itself.
    let socket: Socket = kept(
      proxy === undefined ? dial(url, lookup, time, signal) : dial(proxy, lookupKnown, time, signal),
    )
    const login = `${proxy?.username ?? ''}:${proxy?.password ?? ''}`
    const forProxy = login === ':' ? {} : { 'Proxy-Authorization': `Basic ${bytesOf(login).toString('base64')}` }
    if (proxy !== undefined && isSecure) {
      const path = `${url.hostname}:${url.port || 443}`
      const headers = { Host: path, Connection: 'keep-alive', ...forProxy }
      const status = await statusOf(socket, { method: 'CONNECT', path, headers }, signal)
      if (status === 407) throw new Unasked('its proxy demands a login')
      if (status >= 300) return { state: 'silent', reason: `the proxy answers ${status}` }
    }
    if (isSecure) {
      const { ca, cert, key } = host
      const trust = { ca: ca && [...ca], cert: cert && [...cert], key: key && [...key], rejectUnauthorized: !!ca }
      const names = { host: name, servername: isIP(name) === 0 ? name : '' }
      socket = kept(connectTls({ ...trust, ...names, ALPNProtocols: ['http/1.1'], socket }))
    }
    const isAbsolute = proxy !== undefined && !isSecure
    const path = isAbsolute ? url.href : url.pathname
    const plain = { Host: url.host, 'User-Agent': 'swarmirror', Accept: '*/*', Connection: 'close' }
    const headers = isAbsolute ? { ...plain, ...forProxy } : plain
    const status = await statusOf(socket, { method: 'GET', path, headers }, signal)
    return { state: status < 500 ? 'answers' : 'silent', reason: `it answers ${status}` }
  }

  return async (host, isKnown, time, signal) => {
    try {
      return await bounded(time, signal, (over) => ask(host, isKnown, time, over))
    } catch (error) {
      signal.throwIfAborted()
      if (error instanceof Unasked) return { state: 'unasked', reason: error.message }
      // If no address accepts, there is an error for each.
      const last: unknown = error instanceof AggregateError ? error.errors.at(-1) : error
      if (!(last instanceof Error)) throw error
      // To a process without a free descriptor every host seems silent, with an error that often names another cause.
      await (await open('/dev/null')).close()
      const { name, message } = last
      return { state: 'silent', reason: name === 'TimeoutError' ? `no answer within ${time} ms` : message }
    }
  }
}

const ignored = () => undefined

/** The bytes of a part of a URL, which need not be UTF-8. */
function bytesOf(part: string): Buffer {
  const unescaped = part.replace(/%(..)/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)))
  return Buffer.from(unescaped, 'latin1')
}

/** Begins to connect to a host. If one of its addresses does not accept in its share of the time, the next one is tried too. */
function dial({ hostname, port, protocol }: URL, lookup: Lookup, time: number, signal: AbortSignal): Socket {
  return connect({
    host: bare(hostname),
    port: Number(port) || (protocol === 'https:' ? 443 : 80),
    autoSelectFamily: true,
    autoSelectFamilyAttemptTimeout: Math.ceil(time / MOST_ADDRESSES),
    lookup: (name, _, found) => {
      const all = (addresses: readonly string[]) =>
        addresses.slice(0, MOST_ADDRESSES).map((address) => ({ address, family: isIP(address) }))
      lookup(name, signal).then(
        (addresses) => found(null, all(addresses)),
        (error) => found(error, []),
      )
    },
  })
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

/** Sends a request over a socket as soon as it is open, and returns the status of the answer. */
async function statusOf(
  socket: Socket,
  message: { readonly method: 'GET' | 'CONNECT'; readonly path: string; readonly headers: OutgoingHttpHeaders },
  signal: AbortSignal,
): Promise<number> {
  const { promise, resolve, reject } = Promise.withResolvers<number>()
  using _ = onAbort(signal, () => reject(signal.reason))
  const asked = request({ ...message, createConnection: () => socket })
  const answered = ({ statusCode = 0 }: IncomingMessage) => resolve(statusCode)
  asked.once('response', answered)
  asked.once('connect', answered)
  asked.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code === 'ECONNRESET') reject(new Error('the connection was closed before an answer', { cause: error }))
    else reject(error.code?.startsWith('HPE_') ? new Error('the answer is not HTTP', { cause: error }) : error)
  })
  asked.end()
  return await promise
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
]

/** The same networks through NAT64 (RFC 6052), as nodes without IPv4 reach them. */
const RESERVED_BY_NAT64 = RESERVED.filter((network) => !network.includes(':')).map((network) => {
  const [address, bits] = network.split('/')
  return `64:ff9b::${address}/${96 + Number(bits)}`
})

/** Whether an address is one that no registry can have. An IPv4 address mapped into IPv6 counts as IPv4. */
export const isReserved = inNetworks([...RESERVED, ...RESERVED_BY_NAT64])
