import { LENGTH_HEADER } from '../../platform/listener.ts'
import { ProtocolError } from './error.ts'
import { TOKEN } from './request.ts'

/** How the end of a body is known. Our doors tell the length of every one, also of those that they send in chunks. */
export interface Framing {
  /** Of the body in bytes. */
  readonly length: number
  /** Whether the body comes in chunks (RFC 9112, section 7.1). */
  readonly isChunked: boolean
}

export interface ResponseHead {
  readonly status: number
  readonly headers: Headers
  readonly framing: Framing
  /** Whether the connection may be used again afterwards. */
  readonly keepAlive: boolean
}

/** Longest head in bytes. A door of ours sends under 1 KiB. */
const HEAD_LIMIT = 16 * 1024
const HEADERS_LIMIT = 100
/** Answers before the answer (1xx) that are passed over. */
const INTERIM_LIMIT = 4

const STATUS_LINE = /^HTTP\/1\.1 ([1-5]\d\d)(?: [\t\x20-\x7e\x80-\xff]*)?$/
/** RFC 9110, section 5.5: neither CR, LF nor any other control character but the tab. */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/
const CR = 0x0d
const LF = 0x0a

/** Collects the head of an answer from pieces of any length. */
export class HeadReader {
  readonly #method: 'GET' | 'HEAD'
  #bytes = new Uint8Array(0)
  #interim = 0

  constructor(method: 'GET' | 'HEAD') {
    this.#method = method
  }

  /**
   * @returns the head when it is complete, with the bytes after it, which are not of the memory that was given
   * @throws {ProtocolError}
   */
  push(bytes: Uint8Array): { readonly head: ResponseHead; readonly rest: Uint8Array } | undefined {
    // Copied: what was given may be overwritten when more is asked for. The bytes already looked at need no second look,
    // but for three that may be the beginning of the head's end.
    let from = Math.max(this.#bytes.length - 3, 0)
    this.#bytes = Buffer.concat([this.#bytes, bytes])
    for (;;) {
      const end = endOfHead(this.#bytes, from)
      if ((end ?? this.#bytes.length) > HEAD_LIMIT) throw new ProtocolError(`a head of more than ${HEAD_LIMIT} bytes`)
      if (end === undefined) return undefined
      const head = parseHead(this.#bytes.subarray(0, end), this.#method)
      const rest = this.#bytes.subarray(end)
      if (head.status >= 200) return { head, rest }
      if (head.status === 101 || ++this.#interim > INTERIM_LIMIT) throw new ProtocolError(`status ${head.status}`)
      this.#bytes = rest
      from = 0
    }
  }
}

/** The offset after the empty line; `undefined` if it is not there. */
function endOfHead(bytes: Uint8Array, from: number): number | undefined {
  for (let at = bytes.indexOf(LF, from); at >= 0; at = bytes.indexOf(LF, at + 1)) {
    if (at >= 3 && bytes[at - 1] === CR && bytes[at - 2] === LF && bytes[at - 3] === CR) return at + 1
  }
  return undefined
}

/**
 * Reads a whole head, strictly: what a door of ours never sends is refused and not repaired.
 *
 * @param bytes up to the empty line, which is included
 * @throws {ProtocolError}
 */
export function parseHead(bytes: Uint8Array, method: 'GET' | 'HEAD'): ResponseHead {
  const [statusLine = '', ...lines] = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    .toString('latin1')
    .slice(0, -4)
    .split('\r\n')
  const matched = STATUS_LINE.exec(statusLine)
  if (matched === null) throw new ProtocolError(`expected a status line of HTTP/1.1, got ${quoted(statusLine)}`)
  if (lines.length > HEADERS_LIMIT) throw new ProtocolError(`more than ${HEADERS_LIMIT} headers`)
  const headers = new Headers()
  for (const line of lines) {
    const [name, value] = parseLine(line)
    if (headers.has(name) && SINGLE.has(name)) throw new ProtocolError(`more than one ${name}`)
    headers.append(name, value)
  }
  const status = Number(matched[1])
  const told = headers.get(LENGTH_HEADER)
  const framing = framingOf(status, headers, method)
  if (told !== null && !headers.has('content-length')) headers.set('content-length', told)
  const closes = (headers.get('connection') ?? '').split(',').some((option) => option.trim().toLowerCase() === 'close')
  return { status, headers, framing, keepAlive: !closes }
}

/** Headers that say where a body ends. */
const SINGLE: ReadonlySet<string> = new Set(['content-length', 'transfer-encoding'])

function parseLine(line: string): [name: string, value: string] {
  const colon = line.indexOf(':')
  const name = line.slice(0, Math.max(colon, 0)).toLowerCase()
  const value = line.slice(colon + 1)
  // A folded line (it begins with a blank) has no name, and no blank may be between name and colon.
  if (!TOKEN.test(name) || !VALUE.test(value)) throw new ProtocolError(`expected a header, got ${quoted(line)}`)
  // `Headers` takes off the blanks around a value.
  return [name, value]
}

function framingOf(status: number, headers: Headers, method: 'GET' | 'HEAD'): Framing {
  const declared = headers.get('content-length')
  const encoding = headers.get('transfer-encoding')
  if (encoding !== null && encoding.toLowerCase() !== 'chunked') {
    throw new ProtocolError(`a Transfer-Encoding of ${quoted(encoding)}`)
  }
  if (encoding !== null && declared !== null) throw new ProtocolError('both Content-Length and Transfer-Encoding')
  const told = declared ?? headers.get(LENGTH_HEADER)
  const length = Number(told)
  if (told !== null && (!/^\d{1,16}$/.test(told) || !Number.isSafeInteger(length))) {
    throw new ProtocolError(`expected a Content-Length, got ${quoted(told)}`)
  }
  const isBodyless = method === 'HEAD' || status < 200 || status === 204 || status === 304
  if (isBodyless) return { length: 0, isChunked: false }
  if (told === null) throw new ProtocolError('a body of which no length is told')
  return { length, isChunked: encoding !== null }
}

/** For a message: what a stranger sent, bounded. */
function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 80))
}
