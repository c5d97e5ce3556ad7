/** A socket's address as text: `host:port`, with an IPv6 host in brackets (RFC 3986, section 3.2.2). */
export function addressOf({ host, port }: { readonly host: string; readonly port: number }): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}
