import { isIPv4, isIPv6 } from 'node:net'
import { parseRegistry } from '../oci/reference.ts'
import type { BootstrapEntry } from '../swarm/members/bootstrap.ts'

// Readers for the values of settings. Each throws an error that says what it accepts.

/** Where a door listens. Port 0 means any free port. */
export interface Address {
  readonly host: string
  readonly port: number
}

export type StoreSetting = { readonly kind: 'containerd' } | { readonly kind: 'oci-layout'; readonly dir: string }

function split(list: string): string[] {
  return list
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
}

function readPort(digits: string | undefined, least: number): number {
  const port = /^\d{1,5}$/.test(digits ?? '') ? Number(digits) : Number.NaN
  if (!(port >= least && port <= 65_535)) throw new Error(`expected a port from ${least} to 65535 after the last colon`)
  return port
}

/** Reads `IPv4:port`, `[IPv6]:port` or `localhost:port`. */
export function readAddress(text: string): Address {
  const colon = text.lastIndexOf(':')
  const host = text.slice(0, Math.max(colon, 0)).replace(/^\[(.*)\]$/, '$1')
  const bracketed = text.startsWith('[')
  const known = bracketed ? isIPv6(host) : isIPv4(host) || host === 'localhost'
  if (!known) throw new Error('expected IPv4:port, [IPv6]:port or localhost:port')
  return { host, port: readPort(text.slice(colon + 1), 0) }
}

/** Reads a comma-separated list of `host:port` and `dns:name:port`. */
export function readBootstrap(list: string): readonly BootstrapEntry[] {
  return split(list).map((item) => {
    const parts = item.split(':')
    const kind = parts[0] === 'dns' ? 'dns' : 'host'
    const [host, port, ...rest] = kind === 'dns' ? parts.slice(1) : parts
    if (host === undefined || host === '' || rest.length > 0 || !/^[A-Za-z0-9._-]+$/.test(host)) {
      throw new Error(`expected IPv4:port, name:port or dns:name:port in ${JSON.stringify(item)}`)
    }
    return { kind, host, port: readPort(port, 1) }
  })
}

/** Reads `NODE=KEY`, the Kubernetes names of a node and of a taint. */
export function readNodeTaint(text: string): { readonly node: string; readonly key: string } {
  const [, node, key] = /^([a-z0-9.-]+)=([A-Za-z0-9./_-]+)$/.exec(text) ?? []
  if (node === undefined || key === undefined) throw new Error('expected NODE=KEY, the names of a node and of a taint')
  return { node, key }
}

const KEY_IN_HEX = /^[0-9a-f]{64}$/i
const KEY_IN_BASE64URL = /^[A-Za-z0-9_-]{43}=?$/

/** Whether a text is a swarm key. No message may contain one. */
export function isSwarmKey(text: string): boolean {
  return KEY_IN_HEX.test(text) || KEY_IN_BASE64URL.test(text)
}

/** Reads 32 bytes from 64 hexadecimal digits, or from base64url with or without padding. */
function readSwarmKey(text: string): Uint8Array {
  if (KEY_IN_HEX.test(text)) return new Uint8Array(Buffer.from(text, 'hex'))
  if (KEY_IN_BASE64URL.test(text)) return new Uint8Array(Buffer.from(text, 'base64url'))
  throw new Error('expected 32 bytes as 64 hexadecimal digits or 43 characters of base64url (`key` prints a fresh one)')
}

/** A rotation needs the old key and the new one. */
const MOST_KEYS = 2

/** Reads one or two swarm keys, with a comma or a line feed between them. */
export function readSwarmKeys(text: string): readonly [Uint8Array, ...Uint8Array[]] {
  const [first, ...rest] = splitKeys(text).map(readSwarmKey)
  if (first === undefined || rest.length >= MOST_KEYS) throw new Error('expected one swarm key or two')
  return [first, ...rest]
}

/** Splits a text into parts that could each be a swarm key. */
export function splitKeys(text: string): string[] {
  return text.split(/[,\s]+/).filter((part) => part !== '')
}

/** Reads `containerd` or `oci-layout:DIR`. */
export function readStore(text: string): StoreSetting {
  if (text === 'containerd') return { kind: 'containerd' }
  const dir = /^oci-layout:(.+)$/s.exec(text)?.[1]
  if (dir === undefined) throw new Error('expected `containerd` or `oci-layout:DIR`')
  return { kind: 'oci-layout', dir }
}

/** Reads a number with an optional unit; `units` has the factor of each unit. */
function readAmount(text: string, units: Readonly<Record<string, number>>, expected: string): number {
  const [, amount, unit = ''] = /^(\d+(?:\.\d+)?)([a-zA-Z]*)$/.exec(text) ?? []
  const factor = Object.hasOwn(units, unit) ? units[unit] : undefined
  if (amount === undefined || factor === undefined) throw new Error(`expected ${expected}`)
  return Math.round(Number(amount) * factor)
}

/** Reads a duration, in whole milliseconds, which timers need. */
export function readDuration(text: string): number {
  return readAmount(text, { ms: 1, s: 1_000, m: 60_000 }, 'a number with `ms`, `s` or `m`, as in 100ms')
}

/** Reads a number of bytes per second, with `k`, `M` or `G` for decimal multiples. */
export function readRate(text: string): number {
  return readAmount(text, { '': 1, k: 1e3, M: 1e6, G: 1e9 }, 'bytes per second with `k`, `M` or `G`, as in 20M')
}

/** Reads a comma-separated list of registries. It refuses an empty list, with which nothing would be mirrored. */
export function readRegistries(list: string): ReadonlySet<string> {
  const registries = new Set(split(list).map(parseRegistry))
  if (registries.size === 0) throw new Error('expected at least one registry')
  return registries
}

/** Reads a comma-separated list of regular expressions. */
export function readExpressions(list: string): readonly RegExp[] {
  // `u` refuses the halves of an expression with a comma, such as `a{1,3}`, which would otherwise get another meaning.
  return split(list).map((source) => new RegExp(source, 'u'))
}

/** Reads a whole number in decimal digits. */
export function readCount(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new Error('expected a whole number')
  return Number(text)
}
