import { BlockList, isIP, isIPv6 } from 'node:net'
import { isLoopback } from '../platform/address.ts'

/** The values of HTTP_PROXY, HTTPS_PROXY and NO_PROXY. */
export interface ProxySettings {
  readonly http?: string | undefined
  readonly https?: string | undefined
  readonly except?: string | undefined
}

/**
 * Chooses the proxy for a URL as containerd's HTTP client does (golang.org/x/net/http/httpproxy). `localhost` and loopback
 * addresses have none. Hosts that NO_PROXY lists have none either: by name, with all names below it, by address, by network or
 * by port; `*` matches everything.
 */
export function createProxyChoice({ http, https, except = '' }: ProxySettings): (url: URL) => URL | undefined {
  const proxies = { 'http:': readProxy(http), 'https:': readProxy(https) }
  const exceptions = except.split(',').map((item) => readException(item.trim().toLowerCase()))
  return (url) => {
    const proxy = proxies[url.protocol as keyof typeof proxies]
    const host = bare(url.hostname)
    const port = url.port || (url.protocol === 'https:' ? '443' : '80')
    const isDirect = isLoopback(host) || exceptions.some((matches) => matches(host, port))
    return isDirect ? undefined : proxy
  }
}

/** A proxy without a scheme is an HTTP proxy. Like Go, it uses no proxy if it cannot read the URL, as with a lone `%`. */
function readProxy(text: string | undefined): URL | undefined {
  if (text === undefined || text === '' || /%(?![0-9a-f]{2})/i.test(text)) return undefined
  return URL.parse(/^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`) ?? undefined
}

type Exception = (host: string, port: string) => boolean

function readException(text: string): Exception {
  if (text === '') return () => false
  if (text === '*') return () => true
  const [, network = '', bits = ''] = /^([0-9a-f.:]+)\/(\d{1,3})$/.exec(text) ?? []
  if (isIP(network) !== 0) return Number(bits) > (isIPv6(network) ? 128 : 32) ? () => false : inNetworks([text])
  const [, named = '', onlyPort] = /^(\[[^\]]*\]|[^:]*):(\d+)$/.exec(text) ?? [text, text]
  const name = bare(named)
  const isPort = (port: string) => onlyPort === undefined || onlyPort === port
  if (isIP(name) !== 0) return (host, port) => host === name && isPort(port)
  const below = name.startsWith('*.') ? name.slice(1) : name.startsWith('.') ? name : `.${name}`
  const itself = name === below || name.startsWith('*.') ? undefined : name
  return (host, port) => name !== '' && (host.endsWith(below) || host === itself) && isPort(port)
}

/** Makes what tells whether an address is in one of these networks, each written as `10.0.0.0/8`. */
export function inNetworks(networks: readonly string[]): (address: string) => boolean {
  const familyOf = (address: string) => (isIPv6(address) ? 'ipv6' : 'ipv4')
  const list = new BlockList()
  for (const network of networks) {
    const [address = '', bits] = network.split('/')
    list.addSubnet(address, Number(bits), familyOf(address))
  }
  return (address) => isIP(address) !== 0 && list.check(address, familyOf(address))
}

/** An IPv6 address without its brackets. */
export function bare(host: string): string {
  return host.replace(/^\[(.*)\]$/, '$1')
}
