import type { ByteSource } from '../../platform/byte-source.ts'
import { PeerError } from '../error.ts'
import { ProtocolError, TruncatedError } from './error.ts'
import type { Framing } from './head.ts'

/** Longest line with the size of a chunk, and all trailers together, in bytes. */
const LINE_LIMIT = 256
const TRAILERS_LIMIT = 4 * 1024
/** Longest body that is read to keep its connection, in bytes: an error's, or a small manifest's. */
const DISCARD_LIMIT = 16 * 1024
/** RFC 9112, section 7.1, with up to 2^52 bytes. Extensions are passed over, as they must be. */
const SIZE_LINE = /^([0-9A-Fa-f]{1,13})[\t ]*(?:;[\t\x20-\x7e\x80-\xff]*)?$/
const LF = 0x0a

type State = 'size' | 'data' | 'after-data' | 'trailers' | 'done'

/** Takes a body out of its chunks (RFC 9112, section 7.1). Trailers are passed over. */
export class ChunkDecoder {
  #state: State = 'size'
  #line = ''
  #missing = 0
  #trailers = 0

  /** Whether the body has ended, and what follows is not of it. */
  get done(): boolean {
    return this.#state === 'done'
  }

  /**
   * Takes the next part of the body out of the input; asked again for what is left over until that is empty.
   *
   * @returns `data` is a part of the input, or empty if that begins with something else
   * @throws {ProtocolError}
   */
  decode(input: Uint8Array): { readonly data: Uint8Array; readonly rest: Uint8Array } {
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

export interface MessageBodyOptions {
  /** Bytes that came with the head. */
  readonly rest: Uint8Array
  /** Milliseconds within which what nobody wants of a body must be there, for its connection to be used again. */
  readonly discardTimeout: number
  /** Told once, when the connection is not needed any more: whether it stands at the end of this message. */
  readonly over: (isUsable: boolean) => void
}

/** The body of an answer, in the memory of its connection: a chunk is good until the next one is asked for. */
export class MessageBody implements ByteSource {
  readonly #connection: ByteSource
  readonly #options: MessageBodyOptions
  readonly #chunks: ChunkDecoder | undefined
  /** Whether so little is to come that it may be read for nothing. */
  readonly #isShort: boolean
  #rest: Uint8Array
  /** Bytes that its reader has not got yet. */
  #left: number
  #state: 'new' | 'reading' | 'over' | 'cancelled' = 'new'

  constructor(connection: ByteSource, { length, isChunked }: Framing, options: MessageBodyOptions) {
    this.#connection = connection
    this.#options = options
    this.#chunks = isChunked ? new ChunkDecoder() : undefined
    this.#isShort = length <= DISCARD_LIMIT
    this.#rest = options.rest
    this.#left = length
    if (length > 0) return
    if (isChunked) void this.#discard()
    else this.#end('over', this.#rest.length === 0)
  }

  /** @throws {PeerError} when it breaks off, or was cancelled */
  async next(): Promise<Uint8Array | undefined> {
    if (this.#state === 'new') this.#state = 'reading'
    try {
      while (this.#left > 0) {
        if (this.#state === 'cancelled') throw new Error('the body was cancelled')
        const data = await this.#advance()
        // In chunks the end of a body may come later than its last byte, for which nobody waits.
        if (this.#left === 0 && this.#state === 'reading') void this.#discard()
        if (data.length > 0) return data
      }
      return undefined
    } catch (error) {
      this.#end('cancelled', false)
      throw peerErrorOf(error)
    }
  }

  async cancel(): Promise<void> {
    if (this.#left === 0) return
    if (this.#state === 'new' && this.#isShort) await this.#discard()
    else this.#end('cancelled', false)
  }

  /** The next part of the body, empty for what is no content. Behind its end, the connection is free. */
  async #advance(): Promise<Uint8Array> {
    if (this.#rest.length === 0) {
      const chunk = await this.#connection.next()
      if (chunk === undefined) throw new TruncatedError(`the connection ended ${this.#left} bytes before the body`)
      this.#rest = chunk
    }
    const { data, rest } = this.#chunks?.decode(this.#rest) ?? {
      data: this.#rest.subarray(0, this.#left),
      rest: this.#rest.subarray(this.#left),
    }
    this.#rest = rest
    if (data.length > this.#left) throw new ProtocolError('more bytes than declared')
    this.#left -= data.length
    const isDone = this.#chunks?.done ?? this.#left === 0
    if (isDone && this.#left > 0)
      throw new TruncatedError(`the last chunk came ${this.#left} bytes before the body's end`)
    if (this.#left > 0) return data
    // The memory of the connection is used again by what follows. (`slice` of a Buffer would not copy.)
    const last = new Uint8Array(data)
    if (isDone) this.#end('over', rest.length === 0)
    return last
  }

  /** Reads what nobody waits for, so that the connection can be used again. */
  async #discard(): Promise<void> {
    this.#state = 'reading'
    const timer = setTimeout(() => this.#end('cancelled', false), this.#options.discardTimeout)
    try {
      while (this.#state === 'reading') await this.#advance()
    } catch {
      // Nobody is interested in a connection that breaks while its body is thrown away.
      this.#end('cancelled', false)
    } finally {
      clearTimeout(timer)
    }
  }

  #end(state: 'over' | 'cancelled', isUsable: boolean): void {
    if (this.#state === 'over' || this.#state === 'cancelled') return
    this.#state = state
    this.#options.over(isUsable)
  }
}

/** A failure of a connection, or of what came over it, as the peer's. */
export function peerErrorOf(error: unknown, where = ''): PeerError {
  if (error instanceof PeerError) return error
  const message = (error instanceof Error && error.message) || 'the connection broke'
  const failure = error instanceof ProtocolError ? 'invalid' : 'unreachable'
  return new PeerError(`${where}${message}`, { failure, cause: error })
}
