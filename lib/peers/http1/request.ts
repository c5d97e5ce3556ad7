import { TOKEN } from '../../platform/http-head.ts'

export interface RequestHead {
  readonly method: 'GET' | 'HEAD'
  readonly host: string
  readonly port: number
  /** Path and query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
}

/** Visible characters: what else a URL has is percent-encoded. */
const PATH = /^\/[\x21-\x7e]*$/
const HOST = /^[0-9A-Za-z.:_-]+$/
/** RFC 9110, section 5.5, without the bytes beyond ASCII, which none of our headers has. */
const VALUE = /^[\t\x20-\x7e]*$/

/**
 * The bytes of a request without a body.
 *
 * @throws {TypeError} for anything that would be read as something else than it is on the other side
 */
export function formatRequest({ method, host, port, path, headers }: RequestHead): string {
  if (!PATH.test(path)) throw new TypeError(`expected a path of visible characters, got ${JSON.stringify(path)}`)
  if (!HOST.test(host)) throw new TypeError(`expected a host, got ${JSON.stringify(host)}`)
  const lines = Object.entries(headers).map(([name, value]) => {
    if (!TOKEN.test(name) || !VALUE.test(value)) {
      throw new TypeError(`expected a header, got ${JSON.stringify(name)}: ${JSON.stringify(value)}`)
    }
    return `${name}: ${value}\r\n`
  })
  const authority = `${host.includes(':') ? `[${host}]` : host}:${port}`
  return `${method} ${path} HTTP/1.1\r\nHost: ${authority}\r\n${lines.join('')}\r\n`
}
