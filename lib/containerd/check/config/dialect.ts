/** A version of containerd as far as behaviour depends on it. */
export interface ContainerdVersion {
  readonly major: number
  readonly minor: number
  readonly patch: number
}

/**
 * Reads what containerd's version service says: `v2.1.4`, `1.7.24~ds1`, `2.0.5-k3s1.32`. `undefined` for anything that does
 * not begin with three numbers, as a build from a branch does.
 */
export function parseVersion(text: string): ContainerdVersion | undefined {
  const match = /^v?(\d{1,6})\.(\d{1,6})\.(\d{1,6})(?!\d)/.exec(text)
  if (match === null) return undefined
  const [major = 0, minor = 0, patch = 0] = match.slice(1).map(Number)
  return { major, minor, patch }
}

/** What separates the versions of containerd in how they read their configuration. */
export interface Dialect {
  /** Highest `version` of a configuration file that is accepted; higher ones keep containerd from starting. */
  readonly newestConfig: 2 | 3 | 4
  /** The version of a file that names none, after 1.x: it counts as this one once its plugin ids are migrated. */
  readonly unnamedConfig: 1 | 'newest'
  /** Up to 1.7 a plugin's table in an imported file replaces the whole table of that plugin; since 2.0 keys are merged. */
  readonly merge: 'plugins' | 'keys'
  /** Since 2.3 each file is migrated by itself before it is merged; before that, all of them together afterwards. */
  readonly migration: 'none' | 'merged' | 'each'
  /** Whether a byte order mark at the start of a file is passed over; later versions do not start with one. */
  readonly byteOrderMark: boolean
  /** Whether the value of config_path may hold several directories with colons between, for pulls through CRI. */
  readonly splitsConfigPath: boolean
  readonly defaultConfigPath: string
  /** Where `imports` with an asterisk that is relative begins: 1.6 takes it from its own working directory. */
  readonly relativeGlobs: 'parent' | 'working directory'
  /** Drop-ins of the default configuration. Whether they count beside a file without `imports` is not told by the version. */
  readonly defaultImports: readonly string[]
}

/** How this version reads its configuration; read in containerd's cmd/containerd/server/config and plugins/cri/images. */
export function dialectOf({ major, minor }: ContainerdVersion): Dialect {
  const from = (wantedMajor: number, wantedMinor: number) =>
    major > wantedMajor || (major === wantedMajor && minor >= wantedMinor)
  const second = from(2, 0)
  return {
    newestConfig: from(2, 3) ? 4 : second ? 3 : 2,
    unnamedConfig: second ? 'newest' : 1,
    merge: second ? 'keys' : 'plugins',
    migration: from(2, 3) ? 'each' : second ? 'merged' : 'none',
    byteOrderMark: !second,
    // The transfer service, which CRI pulls through since 2.1.0, takes the value for one path.
    splitsConfigPath: !from(2, 1),
    defaultConfigPath: from(2, 2) ? '/etc/containerd/certs.d:/etc/docker/certs.d' : '',
    relativeGlobs: from(1, 7) ? 'parent' : 'working directory',
    defaultImports: from(2, 2) ? ['/etc/containerd/conf.d/*.toml'] : [],
  }
}
