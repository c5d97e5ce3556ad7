import { isIP } from 'node:net'

export type Family = 4 | 6

/** Address family of an IP address in text form; `undefined` for anything else (a host name included). */
export function familyOf(host: string): Family | undefined {
  const family = isIP(host)
  return family === 4 || family === 6 ? family : undefined
}

/**
 * Address family of an IP address.
 *
 * @throws {Error} if it is not one: as with the addon, of no special kind, since hyperdht takes what strangers send for addresses,
 * and a TypeError or RangeError for a mistake of its own, which ends the process
 */
export function requireFamily(host: string): Family {
  const family = familyOf(host)
  if (family === undefined) throw new Error(`${host} is not a valid IP address`)
  return family
}

/** Whether a datagram can go to that port. */
export function isPort(port: number): boolean {
  return Number.isInteger(port) && port > 0 && port < 65536
}
