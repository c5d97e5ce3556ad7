import { isIP } from 'node:net'

/**
 * Why a request to the page must not be answered; `undefined` if it may.
 *
 * The page has no password, so a web page that somebody has open elsewhere must not be able to use the browser to read it:
 * - by DNS rebinding, in which a foreign name comes to mean this address. Such a request carries that name in Host; only
 *   addresses and `localhost` (RFC 6761: never resolved elsewhere) are answered.
 * - by sending requests across origins: refused by Sec-Fetch-Site where browsers send it, and by Origin.
 */
export function refusalOf(request: Request): string | undefined {
  const host = request.headers.get('host') ?? new URL(request.url).host
  if (!isAddress(host)) return 'the page is answered under an IP address or localhost only'
  const site = request.headers.get('sec-fetch-site')
  const isNavigation = request.method === 'GET' && request.headers.get('sec-fetch-mode') === 'navigate'
  if (site !== null && site !== 'same-origin' && site !== 'none' && !isNavigation) return 'asked by another site'
  const origin = request.headers.get('origin')
  if (origin !== null && origin !== `http://${host}`) return 'asked by another origin'
  return undefined
}

/** Whether a Host header names an IP address or localhost, with or without a port. */
function isAddress(host: string): boolean {
  const [, bracketed, plain = ''] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::\d{1,5})?$/.exec(host) ?? []
  return bracketed === undefined ? plain === 'localhost' || isIP(plain) === 4 : isIP(bracketed) === 6
}
