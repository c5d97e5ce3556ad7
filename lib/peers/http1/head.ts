import { addressOf } from '../../platform/address.ts'
import { closes, endOfHead, ProtocolError, quoted, readHead } from '../../platform/http-head.ts'
import type { Peer } from '../../swarm/router.ts'

export interface PeerCall {
  readonly method: 'GET' | 'HEAD'
  /** Path and query. */
  readonly path: string
  readonly headers: Readonly<Record<string, string>>
}

/**
 * The form of the first line of a request. Other lines have only visible characters and blanks, so no text can begin another
 * line.
 */
const REQUEST_LINE = /^(?:GET|HEAD) \/[\x21-\x7e]* HTTP\/1\.1$/
const HEADER_LINE = /^[A-Za-z-]+: [\t\x20-\x7e]*$/
/** Longest head in bytes. Our own doors send less than 1 KiB. */
const HEAD_LIMIT = 16 * 1024
/** Without interim answers (1xx), which our own doors never send. */
const STATUS_LINE = /^HTTP\/1\.1 ([2-5]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?$/

/**
 * The text of a request without a body.
 *
 * @throws {TypeError} for text that the other side would read as something else
 */
export function formatRequest(peer: Peer, { method, path, headers }: PeerCall): string {
  const first = `${method} ${path} HTTP/1.1`
  const lines = [['Host', addressOf(peer)], ...Object.entries(headers)].map(([name, value]) => `${name}: ${value}`)
  const wrong = REQUEST_LINE.test(first) ? lines.find((line) => !HEADER_LINE.test(line)) : first
  if (wrong !== undefined) throw new TypeError(`cannot send ${quoted(wrong)}`)
  return `${[first, ...lines].join('\r\n')}\r\n\r\n`
}

/**
 * Reads the head of an answer.
 *
 * @param bytes from the beginning of the head
 * @returns the head, and the bytes after it; `undefined` if it is not complete
 * @throws {ProtocolError}
 */
export function headOf(bytes: Uint8Array, method: 'GET' | 'HEAD') {
  const end = endOfHead(bytes)
  if ((end ?? bytes.length) > HEAD_LIMIT) throw new ProtocolError(`a head of more than ${HEAD_LIMIT} bytes`)
  if (end === undefined) return undefined
  const { firstLine, headers } = readHead(bytes.subarray(0, end))
  const matched = STATUS_LINE.exec(firstLine)
  if (matched === null) throw new ProtocolError(`expected a status line of HTTP/1.1, got ${quoted(firstLine)}`)
  const status = Number(matched[1])
  const head = { status, headers, length: lengthOf(status, headers, method), keepAlive: !closes(headers) }
  return { head, rest: bytes.subarray(end) }
}

/** Bytes of the body. Our doors tell the length of every body. */
function lengthOf(status: number, headers: Headers, method: 'GET' | 'HEAD'): number {
  const told = headers.get('content-length')
  const length = Number(told)
  if (told !== null && (!/^\d{1,16}$/.test(told) || !Number.isSafeInteger(length))) {
    throw new ProtocolError(`expected a Content-Length, got ${quoted(told)}`)
  }
  const isBodyless = method === 'HEAD' || status === 204 || status === 304
  if (!isBodyless && told === null) throw new ProtocolError('a body without a length')
  const encoding = headers.get('transfer-encoding')
  if (encoding !== null) throw new ProtocolError(`a Transfer-Encoding of ${quoted(encoding)}`)
  return isBodyless ? 0 : length
}
