import { isIPv4, isIPv6 } from 'node:net'
import { parseArgs } from 'node:util'
import * as v from 'valibot'
import { LOG_LEVELS } from './observe/log.ts'
import { parseRegistry } from './oci/reference.ts'
import type { BootstrapEntry } from './swarm/bootstrap.ts'

/** Where a door listens. Port 0 is any free port. */
export interface Address {
  readonly host: string
  readonly port: number
}

export type StoreSetting = { readonly kind: 'containerd' } | { readonly kind: 'oci-layout'; readonly dir: string }

/** Turns the text of a setting into its value; a {@link Problem} says what was wrong and what is accepted. */
const reading = <T>(read: (text: string) => T) =>
  v.pipe(
    v.string(),
    v.rawTransform<string, T>(({ dataset, addIssue, NEVER }) => {
      try {
        return read(dataset.value)
      } catch (error) {
        addIssue({ message: error instanceof Error ? error.message : String(error) })
        return NEVER
      }
    }),
  )

const address = reading((text) => readAddress(text))
const ipv4Address = reading((text) => {
  const read = readAddress(text)
  if (!isIPv4(read.host)) throw new Error('expected an IPv4 address: Hyperswarm encodes addresses as IPv4')
  return read
})
const ipv4Host = reading((text) => {
  if (!isIPv4(text) || text === '0.0.0.0')
    throw new Error('expected the IPv4 address by which other nodes reach this one')
  return text
})
const text = v.pipe(v.string(), v.nonEmpty('expected a text that is not empty'))
const absolutePath = v.pipe(v.string(), v.startsWith('/', 'expected an absolute path'))

/**
 * Every setting of swarmirror, once: the command line, the environment, `--help` and the README's table follow this. The
 * flag is `--` and the name; the variable is `SWARMIRROR_` and the name in capitals with underscores.
 */
export const SETTINGS = {
  listen: {
    default: '127.0.0.1:5000',
    meaning: 'registry door, for containerd on this node (port 0 = any free port, here and below)',
    schema: address,
  },
  'peer-listen': {
    default: '0.0.0.0:5001',
    meaning: 'peer door (TCP) and swarm (UDP), for other nodes, on one port number',
    schema: ipv4Address,
  },
  'admin-listen': {
    default: '127.0.0.1:5002',
    meaning: 'admin door, for probes',
    schema: address,
  },
  'advertise-host': {
    default: undefined,
    shownDefault: 'the address of --peer-listen, or the first non-internal IPv4 address if that is 0.0.0.0',
    meaning: 'IPv4 address by which other nodes reach this one',
    schema: ipv4Host,
  },
  bootstrap: {
    default: undefined,
    shownDefault: 'none: the first node',
    meaning: 'comma list of `host:port` or `dns:name:port`, where other nodes may be; its own address is skipped',
    schema: reading(readBootstrap),
  },
  'swarm-key': {
    default: undefined,
    meaning:
      '32 bytes in base64url or hex, the same on every node (`key` prints one); required unless every door is on loopback',
    schema: reading(readSwarmKey),
  },
  'swarm-key-file': {
    default: undefined,
    meaning: 'file that holds the swarm key',
    schema: text,
  },
  store: {
    default: 'containerd',
    meaning: '`containerd`, or `oci-layout:DIR` (an OCI image layout, no containerd needed)',
    schema: reading(readStore),
  },
  'containerd-socket': {
    default: '/run/containerd/containerd.sock',
    meaning: "containerd's socket",
    schema: absolutePath,
  },
  'containerd-namespace': {
    default: 'k8s.io',
    meaning: 'containerd namespace whose images are mirrored',
    schema: text,
  },
  'containerd-content': {
    default: undefined,
    shownDefault: 'asked from containerd',
    meaning:
      "root of containerd's content store, as this process sees it; if unreadable, content is read through the socket",
    schema: absolutePath,
  },
  'containerd-config': {
    default: '/etc/containerd/config.toml',
    meaning: "containerd's configuration file (for `check`, which is still to come: accepted, not read yet)",
    schema: absolutePath,
  },
  'certs-dir': {
    default: '/etc/containerd/certs.d',
    meaning: 'where hosts.toml files are (for `hosts`, which is still to come: accepted, not read yet)',
    schema: absolutePath,
  },
  registries: {
    default: undefined,
    shownDefault: 'all',
    meaning: 'comma list of registries (`docker.io,registry.example:5000`): only these are mirrored',
    schema: reading((list) => new Set(split(list).map(parseRegistry)) as ReadonlySet<string>),
  },
  exclude: {
    default: undefined,
    shownDefault: 'none',
    meaning: 'comma list of regular expressions on `registry/repository:tag`: matches are neither served nor announced',
    schema: reading((list) => split(list).map(readRegExp) as readonly RegExp[]),
  },
  tags: {
    default: 'cached',
    meaning: '`cached`: tags resolve from the swarm; `off`: never, containerd asks upstream',
    schema: v.picklist(['cached', 'off'], 'expected `cached` or `off`'),
  },
  'lookup-timeout': {
    default: '100ms',
    meaning: 'how long a miss may look for peers before it is a 404 (`ms`, `s` or `m`)',
    schema: v.pipe(
      reading(readDuration),
      v.minValue(1, 'expected at least 1ms'),
      v.maxValue(60_000, 'expected at most 1m'),
    ),
  },
  'data-dir': {
    default: undefined,
    shownDefault: 'none',
    meaning: "directory that keeps the node's identity and the last known nodes between starts",
    schema: absolutePath,
  },
  'log-level': {
    default: 'info',
    meaning: `least important level that is logged: ${LOG_LEVELS.map((level) => `\`${level}\``).join(', ')}`,
    schema: v.picklist(LOG_LEVELS, `expected one of ${LOG_LEVELS.join(', ')}`),
  },
} as const satisfies Record<string, SettingDeclaration>

interface SettingDeclaration {
  /** As a user would write it; `undefined` where no default can be written down. */
  readonly default: string | undefined
  /** What `--help` says in place of a default that cannot be written down; "none" if missing. */
  readonly shownDefault?: string
  readonly meaning: string
  readonly schema: v.GenericSchema<string, unknown>
}

export type SettingName = keyof typeof SETTINGS

/** A value for each setting; `undefined` only where there is no default. */
export type Settings = {
  readonly [Name in SettingName]:
    | v.InferOutput<(typeof SETTINGS)[Name]['schema']>
    | ((typeof SETTINGS)[Name]['default'] extends string ? never : undefined)
}

/** The environment variable of a setting. */
export function variableOf(name: string): string {
  return `SWARMIRROR_${name.toUpperCase().replaceAll('-', '_')}`
}

/** Settings that cannot be used: one line per problem, all of them. Ends a command with exit code 78 (EX_CONFIG). */
export class ConfigurationError extends Error {
  override readonly name = 'ConfigurationError'
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(problems.join('\n'))
    this.problems = problems
  }
}

/** What settings are read from. */
export interface SettingSources {
  readonly flags: readonly string[]
  readonly environment: Readonly<Record<string, string | undefined>>
  /** Reads a small text file; throws what `node:fs` throws. */
  readonly readFile: (path: string) => string
}

/**
 * Reads all settings: a flag wins over its variable, a variable over the default. An empty variable counts as unset,
 * since that is how manifests and unit files leave one out.
 *
 * @throws {ConfigurationError} with every problem there is: unknown flags, bad values, contradictions
 */
export function readSettings({ flags, environment, readFile }: SettingSources): Settings {
  const problems: string[] = []
  const given = { ...readEnvironment(environment), ...readFlags(flags, problems) }
  const read = (name: SettingName, value: Given) => {
    const result = v.safeParse(SETTINGS[name].schema, value.text)
    if (result.success) return result.output
    const shown = name === 'swarm-key' ? '' : ` ${JSON.stringify(value.text)}`
    problems.push(`${value.origin}${shown}: ${result.issues.map((issue) => issue.message).join('; ')}`)
    return undefined
  }
  const settings = {} as Record<SettingName, unknown>
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const fallback = SETTINGS[name].default
    const value = given[name] ?? (fallback === undefined ? undefined : { text: fallback, origin: 'default' })
    settings[name] = value === undefined ? undefined : read(name, value)
  }
  const keyFile = given['swarm-key-file']
  if (keyFile !== undefined && given['swarm-key'] !== undefined) {
    problems.push(`${given['swarm-key'].origin} and ${keyFile.origin}: give one of them, not both`)
  } else if (keyFile !== undefined) {
    try {
      settings['swarm-key'] = read('swarm-key', { text: readFile(keyFile.text).trim(), origin: keyFile.origin })
    } catch (error) {
      problems.push(`${keyFile.origin} ${JSON.stringify(keyFile.text)}: ${(error as Error).message}`)
    }
  }
  if (problems.length === 0) problems.push(...contradictions(settings as Settings))
  if (problems.length > 0) throw new ConfigurationError(problems)
  return settings as Settings
}

/** Whether an address or name can only be reached from this machine. */
export function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIPv4(host) && host.startsWith('127.'))
}

/** A text that was given for a setting, and where, as a user would look for it. */
interface Given {
  readonly text: string
  readonly origin: string
}

type GivenSettings = Partial<Record<SettingName, Given>>

function readEnvironment(environment: SettingSources['environment']): GivenSettings {
  const given: GivenSettings = {}
  for (const name of Object.keys(SETTINGS) as SettingName[]) {
    const variable = variableOf(name)
    const value = environment[variable]
    if (value !== undefined && value !== '') given[name] = { text: value, origin: variable }
  }
  return given
}

function readFlags(flags: readonly string[], problems: string[]): GivenSettings {
  const given: GivenSettings = {}
  const options = Object.fromEntries(Object.keys(SETTINGS).map((name) => [name, { type: 'string' as const }]))
  const { tokens } = parseArgs({ args: [...flags], options, strict: false, tokens: true })
  for (const token of tokens) {
    if (token.kind === 'positional') problems.push(`unexpected argument ${JSON.stringify(token.value)}`)
    if (token.kind !== 'option') continue
    const flag = token.rawName
    if (!Object.hasOwn(SETTINGS, token.name)) problems.push(`unknown flag ${flag}; see --help`)
    else if (token.value === undefined || (!token.inlineValue && token.value.startsWith('--'))) {
      problems.push(`${flag}: expected a value`)
    } else if (Object.hasOwn(given, token.name)) problems.push(`${flag}: given more than once`)
    else given[token.name as SettingName] = { text: token.value, origin: flag }
  }
  return given
}

function contradictions(settings: Settings): string[] {
  const problems: string[] = []
  const doors = ['listen', 'peer-listen', 'admin-listen'] as const
  const open = doors.filter((door) => !isLoopback(settings[door].host))
  if (open.length > 0 && settings['swarm-key'] === undefined) {
    const names = open.map((door) => `--${door}`).join(', ')
    problems.push(
      `${names}: a door beyond loopback needs a swarm key; give --swarm-key or --swarm-key-file (\`key\` prints a fresh one)`,
    )
  }
  for (const [index, door] of doors.entries()) {
    for (const other of doors.slice(index + 1)) {
      if (collide(settings[door], settings[other])) {
        problems.push(`--${door} and --${other}: both on port ${settings[door].port}`)
      }
    }
  }
  return problems
}

function collide(a: Address, b: Address): boolean {
  const everywhere = (host: string) => host === '0.0.0.0' || host === '::'
  return a.port !== 0 && a.port === b.port && (a.host === b.host || everywhere(a.host) || everywhere(b.host))
}

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

function readAddress(text: string): Address {
  const colon = text.lastIndexOf(':')
  const host = text.slice(0, Math.max(colon, 0)).replace(/^\[(.*)\]$/, '$1')
  const bracketed = text.startsWith('[')
  const known = bracketed ? isIPv6(host) : isIPv4(host) || host === 'localhost'
  if (!known) throw new Error('expected IPv4:port, [IPv6]:port or localhost:port')
  return { host, port: readPort(text.slice(colon + 1), 0) }
}

function readBootstrap(list: string): readonly BootstrapEntry[] {
  return split(list).map((item) => {
    const parts = item.split(':')
    const kind = parts[0] === 'dns' ? 'dns' : 'host'
    const [host, port, ...rest] = kind === 'dns' ? parts.slice(1) : parts
    if (host === undefined || host === '' || rest.length > 0 || !/^[A-Za-z0-9._-]+$/.test(host)) {
      throw new Error(`expected host:port or dns:name:port in ${JSON.stringify(item)}`)
    }
    return { kind, host, port: readPort(port, 1) }
  })
}

/** Reads 32 bytes from 64 hexadecimal digits, or from base64url with or without padding. */
function readSwarmKey(text: string): Uint8Array {
  if (/^[0-9a-fA-F]{64}$/.test(text)) return new Uint8Array(Buffer.from(text, 'hex'))
  if (/^[A-Za-z0-9_-]{43}=?$/.test(text)) return new Uint8Array(Buffer.from(text, 'base64url'))
  throw new Error('expected 32 bytes as 64 hexadecimal digits or 43 characters of base64url (`key` prints a fresh one)')
}

function readStore(text: string): StoreSetting {
  if (text === 'containerd') return { kind: 'containerd' }
  const dir = /^oci-layout:(.+)$/s.exec(text)?.[1]
  if (dir === undefined) throw new Error('expected `containerd` or `oci-layout:DIR`')
  return { kind: 'oci-layout', dir }
}

function readRegExp(source: string): RegExp {
  return new RegExp(source)
}

const UNITS: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000 }

/** Reads a duration into milliseconds. */
function readDuration(text: string): number {
  const [, amount, unit] = /^(\d+(?:\.\d+)?)(ms|s|m)$/.exec(text) ?? []
  const factor = UNITS[unit ?? '']
  if (amount === undefined || factor === undefined)
    throw new Error('expected a number with `ms`, `s` or `m`, as in 100ms')
  return Number(amount) * factor
}
