import { isIP } from 'node:net'
import type { Context, MiddlewareHandler } from 'hono'

/**
 * Refuses what a web page of another site asks for through the browser of a person who has it open: by `Sec-Fetch-Site`
 * where browsers send it, and by `Origin`. Programs send neither.
 *
 * @param refuse answers with the reason
 * @param options `allowLinks`: a link on another site may lead here, since that site cannot read what it shows;
 *   `addressesOnly`: Host must be an IP address or `localhost` (RFC 6761: never resolved elsewhere). By DNS rebinding a
 *   foreign name comes to mean this address, and a browser then takes the foreign page for one of ours.
 */
export function sameSite(
  refuse: (c: Context, reason: string) => Response,
  options: { readonly allowLinks?: boolean; readonly addressesOnly?: boolean } = {},
): MiddlewareHandler {
  const { allowLinks = false, addressesOnly = false } = options
  return async function sameSite(c, next) {
    const host = c.req.header('host') ?? new URL(c.req.url).host
    if (addressesOnly && !isAddress(host)) return refuse(c, 'only an IP address or localhost is answered as a Host')
    const site = c.req.header('sec-fetch-site') ?? 'none'
    const isLink = allowLinks && c.req.method === 'GET' && c.req.header('sec-fetch-mode') === 'navigate'
    if (site !== 'same-origin' && site !== 'none' && !isLink) return refuse(c, 'asked by another site')
    const origin = c.req.header('origin')
    if (origin !== undefined && origin !== `http://${host}`) return refuse(c, 'asked by another origin')
    return await next()
  }
}

/** Whether a Host header names an IP address or localhost, with or without a port. */
function isAddress(host: string): boolean {
  const [, bracketed, plain = ''] = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+))(?::\d{1,5})?$/.exec(host) ?? []
  return bracketed === undefined ? plain === 'localhost' || isIP(plain) === 4 : isIP(bracketed) === 6
}
