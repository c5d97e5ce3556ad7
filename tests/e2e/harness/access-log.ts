/** A request that the upstream registry has answered. */
export interface UpstreamRequest {
  /** The client's address. */
  readonly client: string
  readonly method: string
  /** Path and query. */
  readonly target: string
  readonly status: number
  /** Bytes of the body that the registry sent. */
  readonly bytes: number
  readonly userAgent: string
}

/** Client, identity, user, time, request line, status, bytes, referrer, user agent: the "combined" format. */
const LINE = /^(\S+) \S+ \S+ \[[^\]]+\] "(\S+) (\S+) [^"]*" (\d{3}) (\d+|-) "[^"]*" "([^"]*)"$/

/**
 * Reads an access log in the combined format.
 *
 * @throws {Error} on a complete line of another format, so that no request is overlooked
 */
export function parseAccessLog(text: string): UpstreamRequest[] {
  const lines = text.split('\n').slice(0, -1)
  return lines.map((line) => {
    const match = LINE.exec(line)
    if (match === null) throw new Error(`not a line of an access log: ${line}`)
    const [, client = '', method = '', target = '', status, bytes, userAgent = ''] = match
    return { client, method, target, status: Number(status), bytes: bytes === '-' ? 0 : Number(bytes), userAgent }
  })
}
