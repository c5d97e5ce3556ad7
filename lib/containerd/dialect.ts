/** What a version of containerd reads in hosts.toml and in its own configuration, and how. */
export interface Dialect {
  /** Whether containerd discards a hosts.toml without any `[host]` table. */
  readonly needsHost: boolean
  /**
   * Whether containerd reads a header of hosts.toml only up to its first bracket, even one within quotes, and keeps escapes as they
   * are. It then discards a file that names an IPv6 address.
   */
  readonly plainHeaders: boolean
  /** Whether containerd knows the capability `referrers`; if not, it discards a file that has it. */
  readonly referrers: boolean
  /** Whether containerd knows `dial_timeout`; if not, it ignores it. */
  readonly dialTimeout: boolean
  /** The version that a configuration file without `version` has; from 2.0 on it is the newest. */
  readonly unnamedConfig: 1 | 3
  /** What an imported file replaces: a plugin's whole table, or single keys of it. */
  readonly merge: 'plugins' | 'keys'
  /** When containerd migrates older plugin ids: never, after it has merged the files, or in each file before. */
  readonly migration: 'none' | 'merged' | 'each'
  /** Whether config_path may list several directories, separated by colons, for pulls through CRI. */
  readonly splitsConfigPath: boolean
  /** CRI's default if neither config_path nor `registry.mirrors` says whom to ask. */
  readonly defaultConfigPath: string
  /** Whether containerd reads `registry.mirrors`, `registry.configs` and `registry.auths`; later versions ignore them. */
  readonly legacyRegistry: boolean
}

/** One thing that changed between two versions. */
interface DialectChange {
  /** The first version that has it. */
  readonly since: Version
  readonly change: Partial<Dialect>
  /** containerd's source file and the tag with this change, or the version on which it was seen. */
  readonly source: string
}

/** containerd 1.6, the oldest with which the mirror works. */
export const OLDEST: Dialect = {
  needsHost: true,
  plainHeaders: true,
  referrers: false,
  dialTimeout: false,
  unnamedConfig: 1,
  merge: 'plugins',
  migration: 'none',
  splitsConfigPath: true,
  defaultConfigPath: '',
  legacyRegistry: true,
}

const HOSTS_1 = 'remotes/docker/config/hosts.go'
const HOSTS_2 = 'core/remotes/docker/config/hosts.go'
const CONFIG_2 = 'cmd/containerd/server/config/config.go'
const GO_TOML = 'go.mod: go-toml v1 up to v1.7, go-toml/v2 from v2.0.0 on'

/** Everything that has changed since, in the order of the versions. */
export const CHANGES: readonly DialectChange[] = [
  { since: [1, 7, 32], change: { needsHost: false }, source: `${HOSTS_1}, parseHostsFile, v1.7.32; not on 1.7.24` },
  { since: [2, 0, 0], change: { plainHeaders: false }, source: GO_TOML },
  { since: [2, 0, 0], change: { unnamedConfig: 3 }, source: `${CONFIG_2}, LoadConfig, v2.0.0` },
  { since: [2, 0, 0], change: { merge: 'keys' }, source: `${CONFIG_2}, mergeConfig, v2.0.0` },
  { since: [2, 0, 0], change: { migration: 'merged' }, source: `${CONFIG_2}, MigrateConfig, v2.0.0; seen on 2.2.0` },
  { since: [2, 0, 7], change: { dialTimeout: true }, source: `${HOSTS_2}, hostFileConfig, v2.0.7; seen on 2.2.4` },
  {
    since: [2, 1, 0],
    // CRI pulls through the transfer service, which takes the value for a single path.
    change: { splitsConfigPath: false },
    source: 'internal/cri/server/images/image_pull.go, v2.1.0; seen on 2.1.9 and 2.2.0',
  },
  { since: [2, 2, 0], change: { referrers: true }, source: `${HOSTS_2}, parseHostConfig, v2.2.0; not on 1.7.24` },
  {
    since: [2, 2, 0],
    change: { defaultConfigPath: '/etc/containerd/certs.d:/etc/docker/certs.d' },
    source: 'internal/cri/config, DefaultImageConfig, v2.2.0',
  },
  { since: [2, 3, 0], change: { migration: 'each' }, source: `${CONFIG_2}, LoadConfigWithPlugins, v2.3.0` },
  { since: [2, 4, 0], change: { legacyRegistry: false }, source: 'RELEASES.md, v2.3.0: announced for 2.4' },
]

/** The newest known containerd. */
export const NEWEST: Dialect = after(CHANGES)

/** Only what every version understands, for a containerd that cannot be asked. */
const EVERY_VERSION: Dialect = { ...OLDEST, splitsConfigPath: false }

/**
 * The dialect of a version that containerd reports. Without a version, or with one that {@link parseVersion} cannot read, it is
 * what every version understands.
 */
export function dialectOf(version: string | undefined): Dialect {
  const running = version === undefined ? undefined : parseVersion(version)
  if (running === undefined) return EVERY_VERSION
  return after(CHANGES.filter(({ since }) => isSince(running, since)))
}

function after(changes: readonly DialectChange[]): Dialect {
  let dialect = OLDEST
  for (const { change } of changes) dialect = { ...dialect, ...change }
  return dialect
}

export type Version = readonly [major: number, minor: number, patch: number]

/** Whether a version is that one or later. */
export function isSince([major, minor, patch]: Version, [a, b, c]: Version): boolean {
  return (major - a || minor - b || patch - c) >= 0
}

/**
 * Reads the answer of containerd's version service: `v2.1.4`, `1.7.24~ds1`, `2.0.5-k3s1.32`. `undefined` for anything that does not
 * begin with three numbers, such as a build from a branch.
 */
export function parseVersion(text: string): Version | undefined {
  const [, major, minor, patch] = /^v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?!\d)/.exec(text) ?? []
  return major === undefined ? undefined : [Number(major), Number(minor), Number(patch)]
}
