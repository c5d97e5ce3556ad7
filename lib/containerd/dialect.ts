/** What a version of containerd reads in hosts.toml and in its own configuration, and how. */
export interface Dialect {
  /**
   * Whether it is containerd 1.x. In hosts.toml it reads a header only up to its first bracket, even one within quotes, and keeps
   * escapes as they are, so it discards a file that names an IPv6 address. In its own configuration a file without `version` has
   * version 1, later the newest; an imported file replaces a plugin's whole table, later single keys of it; and older plugin ids
   * are not migrated.
   */
  readonly is1x: boolean
  /** Whether containerd migrates older plugin ids in each file, and not after it has merged the files. */
  readonly migratesFiles: boolean
  /** Whether containerd discards a hosts.toml without any `[host]` table. */
  readonly needsHost: boolean
  /** Whether containerd knows the capability `referrers`; if not, it discards a file that has it. */
  readonly referrers: boolean
  /** Whether containerd knows `dial_timeout`; if not, it ignores it. */
  readonly dialTimeout: boolean
  /** Whether config_path may list several directories, separated by colons, for pulls through CRI. */
  readonly splitsConfigPath: boolean
  /** CRI's default if neither config_path nor `registry.mirrors` says whom to ask. */
  readonly defaultConfigPath: string
  /** Whether containerd reads `registry.mirrors`, `registry.configs` and `registry.auths`; later versions ignore them. */
  readonly legacyRegistry: boolean
}

/** What a version reads. Beside each change: containerd's source file and the tag with it, or the version on which it was seen. */
function dialectAt(version: Version): Dialect {
  const since = (...first: Version) => isSince(version, first)
  return {
    // go.mod: go-toml v1 up to v1.7, go-toml/v2 from v2.0.0 on; cmd/containerd/server/config/config.go, LoadConfig, mergeConfig and
    // MigrateConfig, v2.0.0; seen on 2.2.0
    is1x: !since(2, 0, 0),
    // The same file, LoadConfigWithPlugins, v2.3.0
    migratesFiles: since(2, 3, 0),
    // remotes/docker/config/hosts.go, parseHostsFile, v1.7.32; not on 1.7.24
    needsHost: !since(1, 7, 32),
    // core/remotes/docker/config/hosts.go, parseHostConfig, v2.2.0; not on 1.7.24
    referrers: since(2, 2, 0),
    // core/remotes/docker/config/hosts.go, hostFileConfig, v2.0.7; seen on 2.2.4
    dialTimeout: since(2, 0, 7),
    // CRI pulls through the transfer service, which takes the value for a single path: internal/cri/server/images/image_pull.go,
    // v2.1.0; seen on 2.1.9 and 2.2.0
    splitsConfigPath: !since(2, 1, 0),
    // internal/cri/config, DefaultImageConfig, v2.2.0
    defaultConfigPath: since(2, 2, 0) ? '/etc/containerd/certs.d:/etc/docker/certs.d' : '',
    // RELEASES.md, v2.3.0: announced for 2.4
    legacyRegistry: !since(2, 4, 0),
  }
}

/** containerd 1.6, the oldest with which the mirror works. */
export const OLDEST: Dialect = dialectAt([1, 6, 0])

/** The newest known containerd. */
export const NEWEST: Dialect = dialectAt([2, 4, 0])

/**
 * The dialect of a version that containerd reports. Without a version, or with one that {@link parseVersion} cannot read, it is
 * what every version understands.
 */
export function dialectOf(version: string | undefined): Dialect {
  const running = version === undefined ? undefined : parseVersion(version)
  return running === undefined ? { ...OLDEST, splitsConfigPath: false } : dialectAt(running)
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
