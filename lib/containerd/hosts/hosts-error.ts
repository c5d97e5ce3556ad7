/** Something in a hosts.toml that makes containerd discard the whole file, or that must not be edited. */
export class HostsError extends Error {
  override readonly name = 'HostsError'
  /** From 1. */
  readonly line: number
  /** From 1. */
  readonly column: number | undefined

  constructor(reason: string, line: number, column?: number) {
    super(reason)
    this.line = line
    this.column = column
  }
}
