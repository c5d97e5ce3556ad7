import { posix } from 'node:path'
import { type TomlEntry, TomlError, type TomlTable, type TomlValue } from '../../toml/toml.ts'
import type { Dialect } from '../dialect.ts'

/** Why containerd discards a whole hosts.toml, or why it must not be edited. */
export class HostsError extends TomlError {
  override readonly name = 'HostsError'
}

/** Where containerd asks, and what for. */
export interface Endpoint {
  /** With scheme and path; empty if there is no name. */
  readonly url: string
  readonly capabilities: readonly string[]
  readonly table: TomlTable
}

/** The shapes (see {@link shapeOf}) that containerd accepts for the keys that it knows, and the complaint about others. */
const KEYS: Readonly<Record<string, readonly [shape: RegExp, problem: string]>> = {
  override_path: [/^b$/, 'neither true nor false'],
  skip_verify: [/^b$/, 'neither true nor false'],
  capabilities: [/^\[s*\]$/, 'not a list of strings'],
  ca: [/^(?:s|\[s*\])$/, 'neither a string nor a list of strings'],
  client: [/^(?:s|\[(?:s|\[ss\])*\])$/, 'neither a string nor a list of strings and of pairs of strings'],
  header: [/^\{(?:s|\[s*\])*\}$/, 'not a table of strings and of lists of strings'],
}

/** Go's time.ParseDuration, or nothing. */
const GO_DURATION = /^(?:[+-]?(?:0|(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+))?$/

/**
 * Reads the keys of one host (or, in the root table, of `server`) as containerd does. Unknown keys are ignored.
 *
 * @param line where the host stands, for errors
 * @throws {HostsError} for what makes containerd discard the whole file
 */
export function readEndpoint(name: string, table: TomlTable, line: number, dialect: Dialect): Endpoint {
  for (const [key, [shape, problem]] of Object.entries(KEYS)) {
    const entry = table.get(key)
    if (entry !== undefined && !shape.test(shapeOf(entry.value)))
      throw new HostsError(`${key} is ${problem}`, entry.line)
  }
  const timeout = table.get('dial_timeout') ?? { value: '', line }
  if (dialect.dialTimeout && !(typeof timeout.value === 'string' && GO_DURATION.test(timeout.value))) {
    throw new HostsError('dial_timeout is not a duration such as "1s"', timeout.line)
  }
  const overridePath = table.get('override_path')?.value === true
  const url = name === '' ? '' : endpointUrl(name, overridePath, line)
  return { url, capabilities: capabilitiesOf(table, dialect), table }
}

/** The shape of a value: `s` for a string, `b` for true or false, `[]` around a list, `{}` around a table, `?` for others. */
function shapeOf(value: TomlValue): string {
  if (typeof value === 'string') return 's'
  if (typeof value === 'boolean') return 'b'
  const shapes = (items: Iterable<TomlEntry>) => [...items].map((item) => shapeOf(item.value)).join('')
  if (value instanceof Map) return `{${shapes(value.values())}}`
  return Array.isArray(value) ? `[${shapes(value)}]` : '?'
}

function capabilitiesOf(table: TomlTable, { referrers }: Dialect): string[] {
  const { value = [], line = 1 } = table.get('capabilities') ?? {}
  const capabilities = (value as readonly TomlEntry[]).map((item) => String(item.value).toLowerCase())
  const known = ['pull', 'resolve', 'push', ...(referrers ? ['referrers'] : [])]
  const unknown = capabilities.find((capability) => !known.includes(capability))
  if (unknown === undefined) return capabilities.length === 0 ? ['pull', 'resolve', 'push'] : capabilities
  throw new HostsError(`capability ${JSON.stringify(unknown)}, which this version does not know`, line)
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

/**
 * Whether containerd asks a host of that name at the URL, unless the host has `override_path`.
 *
 * @throws {HostsError} if the name is not a URL
 */
export function isUrl(name: string, url: string): boolean {
  return endpointUrl(name, false, 1) === endpointUrl(url, false, 1)
}

/**
 * Whether this host leads containerd to the mirror, even by the other name of loopback. The name alone does not tell, since
 * `override_path` omits `/v2`.
 */
export function leadsTo(host: Pick<Endpoint, 'url'>, url: string): boolean {
  const [one, other] = ['//127.0.0.1:', '//localhost:'] as const
  const names = [url, url.replace(one, other), url.replace(other, one)]
  return names.some((name) => host.url === endpointUrl(name, false, 1))
}
