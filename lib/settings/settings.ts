import { isIPv4 } from 'node:net'
import * as v from 'valibot'
import { LOG_LEVELS } from '../observe/log.ts'
import { parseRegistry } from '../oci/reference.ts'
import {
  readAddress,
  readBootstrap,
  readCount,
  readDuration,
  readExpressions,
  readNodeTaint,
  readRate,
  readRegistries,
  readStore,
  readSwarmKeys,
} from './values.ts'

export type { Address, StoreSetting } from './values.ts'

/** A schema that turns the text of a setting into its value. The reader's error says what is accepted. */
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

/** A number between two bounds, which are written as a user would write them. */
const between = (read: (text: string) => number, least: string, most: string) =>
  v.pipe(
    reading(read),
    v.minValue(read(least), `expected at least ${least}`),
    v.maxValue(read(most), `expected at most ${most}`),
  )

const either = <const Choices extends readonly string[]>(...choices: Choices) => {
  const quoted = choices.map((choice) => `\`${choice}\``)
  return v.picklist(choices, `expected ${quoted.slice(0, -1).join(', ')} or ${quoted.at(-1)}`)
}

const address = reading(readAddress)
const ipv4Address = reading((text) => {
  // First, because `readAddress` would say of an IPv6 address that it only needs brackets.
  if (!isIPv4(text.slice(0, Math.max(text.lastIndexOf(':'), 0))))
    throw new Error('expected IPv4:port: between nodes there is no IPv6')
  return readAddress(text)
})
const ipv4Host = reading((text) => {
  if (!isIPv4(text) || text === '0.0.0.0')
    throw new Error('expected the IPv4 address by which other nodes reach this one: between nodes there is no IPv6')
  return text
})
const text = v.pipe(v.string(), v.nonEmpty('expected a text that is not empty'))
/** What containerd accepts (pkg/identifiers, Validate). */
const namespace = v.pipe(
  v.string(),
  v.regex(/^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$/, 'expected letters and digits, with single . _ or - between them'),
  v.maxLength(76, 'expected at most 76 characters'),
)
const absolutePath = v.pipe(v.string(), v.startsWith('/', 'expected an absolute path'))
/** In `config_path`, containerd takes a colon for the end of a directory. */
const oneDirectory = v.pipe(absolutePath, v.excludes(':', 'expected one directory, without a colon'))

/** A setting whose variable all programs of a machine share; containerd has it in its own environment. */
const proxy = (variable: string, what: string) => ({
  shownDefault: `${variable} of the environment`,
  sharedVariables: [variable, variable.toLowerCase()],
  meaning: `URL of the proxy through which ${what} whether they answer; give the one that containerd uses`,
  schema: text,
})

/**
 * Every setting of swarmirror. The command line, the environment, `--help` and the README's table come from this. The flag is
 * `--` and the name; the variable is `SWARMIRROR_` and the name in capitals with underscores.
 */
export const SETTINGS = {
  listen: {
    default: '127.0.0.1:5000',
    meaning: 'registry door, for containerd on this node (port 0, here and below, means any free port)',
    schema: address,
  },
  'peer-listen': {
    default: '0.0.0.0:5001',
    meaning: 'peer door (TCP) and swarm (UDP), for other nodes, on one port number',
    schema: ipv4Address,
  },
  'admin-listen': {
    default: '127.0.0.1:5002',
    meaning: 'admin door, for probes, Prometheus and people',
    schema: address,
  },
  'metrics-listen': {
    meaning: 'a separate door for probes and Prometheus, without the page, so that the admin door can stay on loopback',
    schema: address,
  },
  page: {
    default: 'loopback',
    meaning:
      'whether the admin door has the page for people, which shows the names of images: `loopback`: only if the door is on loopback; `on`: always; `off`: never',
    schema: either('loopback', 'on', 'off'),
  },
  'advertise-host': {
    shownDefault: 'the address of --peer-listen, or the first non-internal IPv4 address if that is 0.0.0.0',
    meaning: 'IPv4 address by which other nodes reach this one',
    schema: ipv4Host,
  },
  bootstrap: {
    shownDefault: 'none: the first node',
    meaning:
      'where other nodes may be: `host:port` or `dns:name:port`, separated by commas; a node skips its own address',
    schema: reading(readBootstrap),
  },
  'swarm-key': {
    meaning:
      '32 bytes in base64url or hex, the same on every node (`key` prints one), or two of them, separated by a comma: the first is used, and both are accepted; required unless every door is on loopback',
    schema: reading(readSwarmKeys),
  },
  'swarm-key-file': {
    meaning: 'file with the swarm key, or with two, separated by a comma or a line break',
    schema: text,
  },
  store: {
    default: 'containerd',
    meaning: 'where images are: `containerd`, or `oci-layout:DIR` (an OCI image layout, without containerd)',
    schema: reading(readStore),
  },
  'containerd-socket': {
    default: '/run/containerd/containerd.sock',
    meaning: "containerd's socket",
    schema: absolutePath,
  },
  'containerd-namespace': {
    default: 'k8s.io',
    meaning: 'the containerd namespace whose images are mirrored',
    schema: namespace,
  },
  'containerd-content': {
    shownDefault: 'asked from containerd',
    meaning:
      "root of containerd's content store, as this process sees it; if it cannot be read, content comes through the socket",
    schema: absolutePath,
  },
  'containerd-config': {
    default: '/etc/containerd/config.toml',
    meaning: "containerd's configuration file, which `check` reads",
    schema: absolutePath,
  },
  'certs-dir': {
    default: '/etc/containerd/certs.d',
    meaning: "containerd's directory of hosts.toml files, which `hosts` writes and `check` reads",
    schema: oneDirectory,
  },
  probe: {
    default: 'on',
    meaning:
      '`on`: a check also pulls a tiny image through containerd, to see that it asks this mirror and keeps layers; `off`: it only reads the configuration',
    schema: either('on', 'off'),
  },
  registries: {
    shownDefault: 'all',
    meaning: 'registries, separated by commas (`docker.io,registry.example:5000`): only these are mirrored',
    schema: reading(readRegistries),
  },
  also: {
    meaning:
      'registries that have a directory of their own in `--certs-dir`, separated by commas, or `all`: `hosts` writes to these directories as well',
    schema: reading((text) => {
      const registries = readRegistries(text)
      return registries.has('all') ? ('all' as const) : registries
    }),
  },
  'manage-hosts': {
    default: 'off',
    meaning:
      '`on`: the mirror writes hosts.toml files as `hosts` does, when it starts and whenever something there has changed; `off`: it only checks them',
    schema: either('on', 'off'),
  },
  exclude: {
    meaning:
      'regular expressions on `registry/repository:tag`, separated by commas (an image without a tag has nothing after the colon): images that match are neither served nor announced',
    schema: reading(readExpressions),
  },
  resolve: {
    default: 'fallback',
    meaning:
      'who says what a tag means and who may pull: `fallback`: the registry while it answers, and otherwise the swarm, as it last knew; `upstream`: only the registry; `swarm`: only the swarm, for a cluster without a registry',
    schema: either('fallback', 'upstream', 'swarm'),
  },
  'upstream-timeout': {
    default: '1s',
    meaning:
      'how long a registry may take to show that it answers; the first pull from it waits at most as long (`ms`, `s` or `m`)',
    schema: between(readDuration, '10ms', '1m'),
  },
  'http-proxy': proxy('HTTP_PROXY', 'registries over HTTP are asked'),
  'https-proxy': proxy('HTTPS_PROXY', 'registries over HTTPS are asked'),
  'no-proxy': {
    ...proxy('NO_PROXY', ''),
    meaning:
      'hosts, domains, addresses and networks that are asked without a proxy, separated by commas, in the form that containerd reads',
  },
  'default-registry': {
    meaning:
      'the registry that is meant by requests that name none, such as those of dockerd for `docker.io`; without it they get content by digest, never by tag',
    schema: reading(parseRegistry),
  },
  'lookup-timeout': {
    default: '100ms',
    meaning:
      'how long the mirror looks for peers that have what this node lacks before it answers 404 (`ms`, `s` or `m`)',
    schema: between(readDuration, '1ms', '1m'),
  },
  'peer-transfer': {
    default: 'tls',
    meaning:
      '`tls`: bytes between nodes are encrypted with TLS 1.3, with certificates made from the swarm key; `plain`: HTTP. It must be the same on every node',
    schema: either('tls', 'plain'),
  },
  'max-transfers': {
    default: '64',
    meaning:
      'how many requests of other nodes are answered at the same time; any more get a 503 and go to another node',
    schema: between(readCount, '1', '10000'),
  },
  'max-upload-rate': {
    meaning:
      'how many bytes per second all other nodes together get at most (`k`, `M` and `G` are decimal multiples, as in 20M)',
    schema: v.pipe(reading(readRate), v.minValue(1_000, 'expected at least 1k')),
  },
  flight: {
    default: 'on',
    meaning:
      '`on`: when several nodes pull what nobody has, one of them goes to the registry, and the others get it from each other as it arrives; `off`: each goes there',
    schema: either('on', 'off'),
  },
  'parallel-peers': {
    default: '3',
    meaning:
      'how many peers are asked at the same time, at most, for what this node lacks: one more each time the others are slow',
    schema: between(readCount, '1', '16'),
  },
  'stall-timeout': {
    default: '2s',
    meaning: 'how long a peer may send no byte of a blob if no other one can take its place (`ms`, `s` or `m`)',
    schema: between(readDuration, '100ms', '1m'),
  },
  verify: {
    default: 'on',
    meaning: '`on`: everything from peers is checked against its digest as it passes; `off`: only manifests are',
    schema: either('on', 'off'),
  },
  'data-dir': {
    meaning: "directory that keeps the last known nodes and the page's last day from one start to the next",
    schema: absolutePath,
  },
  untaint: {
    meaning:
      '`NODE=KEY`: in a pod, remove the taint with that key from this Kubernetes node once the mirror is ready; the value `nodeTaint` of the chart sets it',
    schema: reading(readNodeTaint),
  },
  'log-level': {
    default: 'info',
    meaning: `the least important level that is logged: ${LOG_LEVELS.map((level) => `\`${level}\``).join(', ')}`,
    schema: v.picklist(LOG_LEVELS, `expected one of ${LOG_LEVELS.join(', ')}`),
  },
} as const satisfies Record<string, SettingDeclaration>

export interface SettingDeclaration {
  /** As a user would write it; missing if the default is not a fixed text. */
  readonly default?: string
  /** What `--help` shows if `default` is missing; "none" if this is missing too. */
  readonly shownDefault?: string
  /** Variables without the program's prefix that count if its own variable is not set; the first one that is set. */
  readonly sharedVariables?: readonly string[]
  readonly meaning: string
  readonly schema: v.GenericSchema<string, unknown>
}

export type SettingName = keyof typeof SETTINGS

/** The value of each setting; `undefined` only if there is no default. */
export type Settings = {
  readonly [Name in SettingName]:
    | v.InferOutput<(typeof SETTINGS)[Name]['schema']>
    | ((typeof SETTINGS)[Name] extends { readonly default: string } ? never : undefined)
}

/** The addresses at which a mirror opens its doors, with the names of their settings, as far as they are known. */
export function doorsOf(settings: Partial<Settings>) {
  return (['listen', 'peer-listen', 'admin-listen', 'metrics-listen'] as const).flatMap((flag) => {
    const address = settings[flag]
    return address === undefined ? [] : [{ flag, ...address }]
  })
}

/** The environment variable of a setting. */
export function variableOf(name: string): string {
  return `SWARMIRROR_${name.toUpperCase().replaceAll('-', '_')}`
}

/** Settings that cannot be used, with one line for each problem. It ends a command with exit code 78 (EX_CONFIG). */
export class ConfigurationError extends Error {
  override readonly name = 'ConfigurationError'
  readonly problems: readonly string[]

  constructor(problems: readonly string[]) {
    super(problems.join('\n'))
    this.problems = problems
  }
}

/** The host for a URL. A door on every address can be reached on loopback. */
export function hostOf(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1'
  if (host === '::') return '[::1]'
  return host.includes(':') ? `[${host}]` : host
}
