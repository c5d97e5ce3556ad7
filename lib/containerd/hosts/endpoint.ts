import { posix } from 'node:path'
import { type TomlEntry, type TomlTable, tableOf } from '../../toml/toml.ts'
import type { Dialect } from '../dialect.ts'
import { HostsError } from './hosts-error.ts'

export type Capability = 'pull' | 'resolve' | 'push' | 'referrers'

export type EndpointOptions = Pick<Dialect, 'referrers' | 'dialTimeout'>

/** Where containerd asks, and for what. */
export interface Endpoint {
  /** With scheme and path; empty if no name was given. */
  readonly url: string
  readonly capabilities: readonly Capability[]
}

const CAPABILITIES: readonly string[] = ['pull', 'resolve', 'push']

/** Go's time.ParseDuration. */
const GO_DURATION = /^[+-]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)$/

/**
 * Reads what is said of one host (or, in the root table, of `server`) as containerd does. Unknown keys are ignored.
 *
 * @param line where the host stands, for errors
 * @throws {HostsError} for what makes containerd discard the whole file
 */
export function readEndpoint(name: string, table: TomlTable, line: number, options: EndpointOptions): Endpoint {
  const overridePath = booleanOf(table, 'override_path')
  booleanOf(table, 'skip_verify')
  checkCertificates(table)
  checkHeader(table.get('header'))
  if (options.dialTimeout) checkDialTimeout(table.get('dial_timeout'))
  const listed = capabilitiesOf(table.get('capabilities'), options)
  return { url: name === '' ? '' : endpointUrl(name, overridePath, line), capabilities: listed }
}

/**
 * The URL that containerd asks for a host of that name.
 *
 * @throws {HostsError} if Go's url.Parse refuses it
 */
export function endpointUrl(name: string, overridePath: boolean, line: number): string {
  const text = name.startsWith('http') ? name : `https://${name}`
  const [, scheme = '', host = '', path = ''] = /^([a-z][a-z0-9+.-]*):\/\/([^/?#]*)([^?#]*)/i.exec(text) ?? []
  // biome-ignore lint/suspicious/noControlCharactersInRegex: Go refuses exactly these.
  const wrong = /[\u0000-\u001f\u007f]/.test(text) || /[\s<>"\\^`{|}]/.test(host) || /%(?![0-9a-f]{2})/i.test(path)
  if (wrong || /:[^\]]*[^\d\]][^\]]*$/.test(host.slice(host.lastIndexOf('@') + 1).replace(/^\[[^\]]*\]/, ''))) {
    throw new HostsError(`${JSON.stringify(name)} is not a URL`, line)
  }
  const clean = path === '' ? '' : posix.normalize(path).replace(/(?<=.)\/$/, '')
  const versioned = overridePath || clean.endsWith('/v2') ? clean : `${clean === '/' ? '' : clean}/v2`
  return `${scheme.toLowerCase()}://${host.toLowerCase()}${versioned}`
}

function capabilitiesOf(entry: TomlEntry | undefined, { referrers }: EndpointOptions): Capability[] {
  const listed = entry === undefined ? [] : stringsOf('capabilities', entry)
  if (listed.length === 0) return ['pull', 'resolve', 'push']
  return listed.map((text) => {
    const capability = text.toLowerCase()
    if (CAPABILITIES.includes(capability) || (referrers && capability === 'referrers')) return capability as Capability
    throw new HostsError(`capability ${JSON.stringify(text)}, which this version does not know`, entry?.line ?? 1)
  })
}

function checkCertificates(table: TomlTable): void {
  const ca = table.get('ca')
  if (ca !== undefined && typeof ca.value !== 'string') stringsOf('ca', ca)
  const client = table.get('client')
  if (client === undefined || typeof client.value === 'string') return
  if (!isList(client.value)) throw new HostsError('client is neither a string nor a list', client.line)
  for (const item of client.value) {
    if (typeof item.value === 'string') continue
    if (stringsOf('client', item).length !== 2) {
      throw new HostsError('client has something other than pairs of certificate and key', item.line)
    }
  }
}

function checkHeader(entry: TomlEntry | undefined): void {
  if (entry === undefined) return
  const header = tableOf(entry.value)
  if (header === undefined) throw new HostsError('header is not a table', entry.line)
  for (const [name, value] of header) if (typeof value.value !== 'string') stringsOf(`header ${name}`, value)
}

function checkDialTimeout(entry: TomlEntry | undefined): void {
  if (entry === undefined || entry.value === '') return
  if (typeof entry.value === 'string' && GO_DURATION.test(entry.value)) return
  throw new HostsError('dial_timeout is not a duration, as "1s" is', entry.line)
}

function booleanOf(table: TomlTable, key: string): boolean {
  const entry = table.get(key)
  if (entry === undefined) return false
  if (typeof entry.value !== 'boolean') throw new HostsError(`${key} is neither true nor false`, entry.line)
  return entry.value
}

function stringsOf(what: string, { value, line }: TomlEntry): string[] {
  if (!isList(value)) throw new HostsError(`${what} is not a list of strings`, line)
  return value.map((item) => {
    if (typeof item.value === 'string') return item.value
    throw new HostsError(`${what} has something other than strings`, item.line)
  })
}

function isList(value: TomlEntry['value']): value is readonly TomlEntry[] {
  return Array.isArray(value)
}
