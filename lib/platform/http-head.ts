/** Bytes that are not HTTP/1.1, or that our own doors and clients never send. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError'
}

/** RFC 9110, section 5.6.2. */
export const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/
/** RFC 9110, section 5.5: neither CR, LF nor any other control character but the tab. */
const VALUE = /^[\t\x20-\x7e\x80-\xff]*$/
const HEADERS_LIMIT = 100
/** Headers that say where a body ends. */
const SINGLE: ReadonlySet<string> = new Set(['content-length', 'transfer-encoding'])
const CR = 0x0d
const LF = 0x0a

/** The offset after the empty line that ends a head; `undefined` if the line is not there yet. */
export function endOfHead(bytes: Uint8Array, from = 0): number | undefined {
  for (let at = bytes.indexOf(LF, from); at >= 0; at = bytes.indexOf(LF, at + 1)) {
    if (at >= 3 && bytes[at - 1] === CR && bytes[at - 2] === LF && bytes[at - 3] === CR) return at + 1
  }
  return undefined
}

/**
 * Reads a whole head, strictly: it refuses anything that our own doors and clients never send, and repairs nothing.
 *
 * @param bytes up to and including the empty line
 * @throws {ProtocolError}
 */
export function readHead(bytes: Uint8Array): { readonly firstLine: string; readonly headers: Headers } {
  const [firstLine = '', ...lines] = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)
    .toString('latin1')
    .slice(0, -4)
    .split('\r\n')
  if (lines.length > HEADERS_LIMIT) throw new ProtocolError(`more than ${HEADERS_LIMIT} headers`)
  const headers = new Headers()
  for (const line of lines) {
    const [name, value] = readLine(line)
    if (headers.has(name) && SINGLE.has(name)) throw new ProtocolError(`more than one ${name}`)
    headers.append(name, value)
  }
  return { firstLine, headers }
}

/** Whether the sender of these headers ends the connection after this message. */
export function closes(headers: Headers): boolean {
  return (headers.get('connection') ?? '').split(',').some((option) => option.trim().toLowerCase() === 'close')
}

/** Text of a stranger for an error message, quoted and cut. */
export function quoted(text: string): string {
  return JSON.stringify(text.slice(0, 80))
}

function readLine(line: string): [name: string, value: string] {
  const colon = line.indexOf(':')
  const name = line.slice(0, Math.max(colon, 0)).toLowerCase()
  const value = line.slice(colon + 1)
  // A folded line begins with a blank and so has no name; a blank between name and colon is not allowed.
  if (!TOKEN.test(name) || !VALUE.test(value)) throw new ProtocolError(`expected a header, got ${quoted(line)}`)
  // `Headers` strips the blanks around a value.
  return [name, value]
}
