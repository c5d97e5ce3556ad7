import { isIPv4 } from 'node:net'

/** A socket's address as text: `host:port`, with an IPv6 host in brackets (RFC 3986, section 3.2.2). */
export function addressOf({ host, port }: { readonly host: string; readonly port: number }): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/** Whether an address or name is reachable only from this machine. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))
}
