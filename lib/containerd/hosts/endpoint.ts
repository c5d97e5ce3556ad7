import { posix } from 'node:path'
import { type TomlEntry, TomlError, type TomlTable, type TomlValue } from '../../toml/toml.ts'
import type { Dialect } from '../dialect.ts'

/** Why containerd discards a whole hosts.toml, or why it must not be edited. */
export class HostsError extends TomlError {
  override readonly name = 'HostsError'
}

/** Where containerd asks, and for what. */
export interface Endpoint {
  /** With scheme and path; empty if no name was given. */
  readonly url: string
  readonly capabilities: readonly string[]
}

/** Go's time.ParseDuration. */
const GO_DURATION = /^[+-]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+)$/

/** What containerd demands of the keys that it knows. */
const KEYS: Readonly<Record<string, readonly [is: (value: TomlValue) => boolean, what: string]>> = {
  override_path: [isBoolean, 'neither true nor false'],
  skip_verify: [isBoolean, 'neither true nor false'],
  capabilities: [isTexts, 'not a list of strings'],
  ca: [(value) => isText(value) || isTexts(value), 'neither a string nor a list of strings'],
  client: [
    (value) => isText(value) || isListOf(value, (item) => isText(item) || (isTexts(item) && item.length === 2)),
    'neither a string nor a list of strings and of pairs of strings',
  ],
  header: [
    (value) => value instanceof Map && isListOf([...value.values()], (item) => isText(item) || isTexts(item)),
    'not a table of strings and of lists of strings',
  ],
  dial_timeout: [(value) => isText(value) && (value === '' || GO_DURATION.test(value)), 'not a duration such as "1s"'],
}

/**
 * Reads the keys of one host (or, in the root table, of `server`) as containerd does. Unknown keys are ignored.
 *
 * @param line where the host stands, for errors
 * @throws {HostsError} for what makes containerd discard the whole file
 */
export function readEndpoint(name: string, table: TomlTable, line: number, dialect: Dialect): Endpoint {
  for (const [key, [is, what]] of Object.entries(KEYS)) {
    const entry = table.get(key)
    if (entry === undefined || is(entry.value) || (key === 'dial_timeout' && !dialect.dialTimeout)) continue
    throw new HostsError(`${key} is ${what}`, entry.line)
  }
  const overridePath = table.get('override_path')?.value === true
  return { url: name === '' ? '' : endpointUrl(name, overridePath, line), capabilities: capabilitiesOf(table, dialect) }
}

function capabilitiesOf(table: TomlTable, { referrers }: Dialect): string[] {
  const entry = table.get('capabilities')
  const listed = isTexts(entry?.value) ? entry.value.map(({ value }) => value) : []
  for (const capability of listed) {
    if (['pull', 'resolve', 'push', ...(referrers ? ['referrers'] : [])].includes(capability.toLowerCase())) continue
    throw new HostsError(`capability ${JSON.stringify(capability)}, which this version does not know`, entry?.line ?? 1)
  }
  return listed.length === 0 ? ['pull', 'resolve', 'push'] : listed.map((capability) => capability.toLowerCase())
}

/**
 * The URL that containerd asks for a host of that name.
 *
 * @throws {HostsError} if Go's url.Parse refuses it
 */
function endpointUrl(name: string, overridePath: boolean, line: number): string {
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

/** Whether a host of that name is asked at the URL, unless it has `override_path`. */
export function isUrl(name: string, url: string): boolean {
  try {
    return asksAt({ url: endpointUrl(name, false, 1) }, url)
  } catch (error) {
    if (error instanceof HostsError) return false
    throw error
  }
}

/** Whether containerd asks a host at the URL: its name alone does not say, since `override_path` leaves out `/v2`. */
export function asksAt(host: Pick<Endpoint, 'url'>, url: string): boolean {
  return host.url === endpointUrl(url, false, 1)
}

function isBoolean(value: TomlValue): boolean {
  return typeof value === 'boolean'
}

function isText(value: TomlValue | undefined): value is string {
  return typeof value === 'string'
}

type Texts = readonly (TomlEntry & { readonly value: string })[]

function isTexts(value: TomlValue | undefined): value is Texts {
  return isListOf(value, isText)
}

function isListOf(value: TomlValue | undefined, is: (value: TomlValue) => boolean): boolean {
  return Array.isArray(value) && (value as readonly TomlEntry[]).every((item) => is(item.value))
}
