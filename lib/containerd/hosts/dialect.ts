/** What differs between containerd's versions in how they read hosts.toml. */
export interface Dialect {
  /** A file without any `[host]` table is an error that discards it (1.6, and 1.7 up to 1.7.31). */
  readonly needsHost: boolean
  /** Only `[host."..."]` headers count; hosts as dotted keys or inline tables are ignored without a word (2.x). */
  readonly headersOnly: boolean
  /** The capability `referrers` is known (2.2); elsewhere it is an error that discards the file. */
  readonly referrers: boolean
  /** `dial_timeout` is known (2.0.7 and later 2.0, 2.1 on); elsewhere it is ignored. */
  readonly dialTimeout: boolean
  /** A byte order mark before the text is passed over (1.x); elsewhere it is an error that discards the file. */
  readonly byteOrderMark: boolean
  /**
   * Headers are read up to the first bracket, be it within quotes, and escapes in them are taken as they stand (1.x): the
   * name of an IPv6 address discards the file.
   */
  readonly plainHeaders: boolean
}

/** What is understood by every version: for a containerd that cannot be asked. */
const EVERY_VERSION: Dialect = {
  needsHost: true,
  headersOnly: true,
  referrers: false,
  dialTimeout: false,
  byteOrderMark: false,
  plainHeaders: true,
}

/** One dialect of each generation, from which an edit must read as it was meant. */
export const GENERATIONS: readonly Dialect[] = [
  {
    needsHost: true,
    headersOnly: false,
    referrers: false,
    dialTimeout: false,
    byteOrderMark: true,
    plainHeaders: true,
  },
  {
    needsHost: false,
    headersOnly: true,
    referrers: true,
    dialTimeout: true,
    byteOrderMark: false,
    plainHeaders: false,
  },
]

/** Whether a version reads the name of a host that is an IPv6 address. */
export function readsBrackets(version: string | undefined): boolean {
  return !dialectOf(version).plainHeaders
}

/**
 * The dialect of a version as containerd tells it: `v1.7.24`, `1.7.24~ds1`, `2.2.0-k3s1`. Without a version, or with one
 * that has no number, it is what every version understands.
 */
export function dialectOf(version: string | undefined): Dialect {
  const [, ...numbers] = /^v?(\d+)\.(\d+)(?:\.(\d+))?/.exec(version ?? '') ?? []
  const [major, minor, patch = 0] = numbers.filter((digits) => digits !== undefined).map(Number)
  if (major === undefined || minor === undefined) return EVERY_VERSION
  const since = (...least: readonly [number, number, number]) => {
    const [a, b, c] = least
    return major > a || (major === a && (minor > b || (minor === b && patch >= c)))
  }
  return {
    needsHost: !since(1, 7, 32),
    headersOnly: since(2, 0, 0),
    referrers: since(2, 2, 0),
    dialTimeout: since(2, 0, 7),
    byteOrderMark: !since(2, 0, 0),
    plainHeaders: !since(2, 0, 0),
  }
}
