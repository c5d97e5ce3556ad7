import { ProtocolError, TruncatedError } from './error.ts'
import type { Framing } from './head.ts'

/** Longest line with the size of a chunk, and all trailers together, in bytes. */
const LINE_LIMIT = 256
const TRAILERS_LIMIT = 4 * 1024
/** RFC 9112, section 7.1, with up to 2^52 bytes. Extensions are passed over, as they must be. */
const SIZE_LINE = /^([0-9A-Fa-f]{1,13})[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?$/
const LF = 0x0a

/** Finds a body in the bytes of a connection. */
export interface BodyDecoder {
  /** Whether the body has ended, and what follows is not of it. */
  readonly done: boolean
  /**
   * Takes the next part of the body out of the input; asked again for what is left over until that is empty.
   *
   * @returns `data` is a part of the input, or empty if that begins with something else
   * @throws {ProtocolError}
   */
  decode(input: Uint8Array): { readonly data: Uint8Array; readonly rest: Uint8Array }
  /**
   * Takes note of the connection's end.
   *
   * @throws {TruncatedError} if the body is not complete
   */
  end(): void
}

export function bodyDecoder(framing: Framing): BodyDecoder {
  if (framing.kind === 'chunked') return new ChunkedDecoder()
  return framing.kind === 'length' ? new LengthDecoder(framing.length) : new UntilCloseDecoder()
}

class LengthDecoder implements BodyDecoder {
  #missing: number

  constructor(length: number) {
    this.#missing = length
  }

  get done(): boolean {
    return this.#missing === 0
  }

  decode(input: Uint8Array) {
    const data = input.subarray(0, this.#missing)
    this.#missing -= data.length
    return { data, rest: input.subarray(data.length) }
  }

  end(): void {
    if (!this.done) throw new TruncatedError(`the connection ended ${this.#missing} bytes before the body`)
  }
}

class UntilCloseDecoder implements BodyDecoder {
  done = false

  decode(input: Uint8Array) {
    return { data: input, rest: input.subarray(input.length) }
  }

  end(): void {
    this.done = true
  }
}

type State = 'size' | 'data' | 'after-data' | 'trailers' | 'done'

/** Takes a body out of its chunks (RFC 9112, section 7.1). Trailers are passed over. */
class ChunkedDecoder implements BodyDecoder {
  #state: State = 'size'
  #line = ''
  #missing = 0
  #trailers = 0

  get done(): boolean {
    return this.#state === 'done'
  }

  decode(input: Uint8Array) {
    let rest = input
    while (rest.length > 0 && this.#state !== 'done') {
      if (this.#state === 'data') {
        const data = rest.subarray(0, this.#missing)
        this.#missing -= data.length
        rest = rest.subarray(data.length)
        if (this.#missing === 0) this.#state = 'after-data'
        // The framing behind it is taken along, so that the end of the body is known with its last byte.
        return { data, rest: this.#framing(rest) }
      }
      rest = this.#framing(rest)
    }
    return { data: input.subarray(input.length), rest }
  }

  end(): void {
    if (!this.done) throw new TruncatedError('the connection ended before the last chunk')
  }

  /** Reads lines until bytes of the body or its end come; gives what is left over. */
  #framing(input: Uint8Array): Uint8Array {
    let rest = input
    while (rest.length > 0 && this.#state !== 'data' && this.#state !== 'done') {
      const end = rest.indexOf(LF)
      const part = rest.subarray(0, end < 0 ? rest.length : end + 1)
      if (this.#line.length + part.length > LINE_LIMIT && this.#state !== 'trailers') {
        throw new ProtocolError(`a chunk's line of more than ${LINE_LIMIT} bytes`)
      }
      if (this.#state === 'trailers') this.#trailers += part.length
      if (this.#trailers > TRAILERS_LIMIT) throw new ProtocolError(`trailers of more than ${TRAILERS_LIMIT} bytes`)
      this.#line += Buffer.from(part.buffer, part.byteOffset, part.length).toString('latin1')
      rest = rest.subarray(part.length)
      if (end < 0) break
      if (!this.#line.endsWith('\r\n')) throw new ProtocolError('a line that does not end with CRLF')
      const line = this.#line.slice(0, -2)
      this.#line = ''
      this.#state = this.#after(line)
    }
    return rest
  }

  #after(line: string): State {
    if (this.#state === 'trailers') return line === '' ? 'done' : 'trailers'
    if (this.#state === 'after-data') {
      if (line !== '') throw new ProtocolError('a chunk of more bytes than its size')
      return 'size'
    }
    const size = SIZE_LINE.exec(line)?.[1]
    if (size === undefined)
      throw new ProtocolError(`expected the size of a chunk, got ${JSON.stringify(line.slice(0, 80))}`)
    this.#missing = Number.parseInt(size, 16)
    return this.#missing === 0 ? 'trailers' : 'data'
  }
}
