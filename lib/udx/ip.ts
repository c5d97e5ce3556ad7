import { isIP } from 'node:net'

export type Family = 4 | 6

/** Address family of an IP address in text form; `undefined` for anything else (a host name included). */
export function familyOf(host: string): Family | undefined {
  const family = isIP(host)
  return family === 4 || family === 6 ? family : undefined
}

/** Address family of an IP address. @throws {TypeError} if it is not one. */
export function requireFamily(host: string): Family {
  const family = familyOf(host)
  if (family === undefined) throw new TypeError(`${host} is not a valid IP address`)
  return family
}

/** @throws {RangeError} if this is not a port that a datagram can go to. */
export function requirePort(port: number): void {
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw new RangeError(`${port} is not a valid port`)
}
