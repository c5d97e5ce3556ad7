import type { ByteSource } from '../../platform/byte-source.ts'
import { ProtocolError } from '../../platform/http-head.ts'
import { PeerError } from '../error.ts'
import { TruncatedError } from './error.ts'

/** Longest body that is read to keep its connection, in bytes: an error's, or a small manifest's. */
const DISCARD_LIMIT = 16 * 1024

export interface MessageBodyOptions {
  /** Bytes that came with the head. */
  readonly rest: Uint8Array
  /** Milliseconds within which what nobody wants of a body must be there, for its connection to be used again. */
  readonly discardTimeout: number
  /** Told once, when the connection is not needed any more: whether it stands at the end of this message. */
  readonly over: (isUsable: boolean) => void
}

/**
 * The body of an answer, in the memory of its connection: a chunk is good until the next one is asked for, or the body cancelled.
 * Only then is the connection free, after the last one, too.
 */
export class MessageBody implements ByteSource {
  readonly #connection: ByteSource
  readonly #options: MessageBodyOptions
  /** Whether so little is to come that it may be read for nothing. */
  readonly #isShort: boolean
  #rest: Uint8Array
  /** Bytes that its reader has not got yet. */
  #left: number
  #state: 'new' | 'reading' | 'over' | 'cancelled' = 'new'

  /** @param length of the body in bytes */
  constructor(connection: ByteSource, length: number, options: MessageBodyOptions) {
    this.#connection = connection
    this.#options = options
    this.#isShort = length <= DISCARD_LIMIT
    this.#rest = options.rest
    this.#left = length
    if (length === 0) this.#finish()
  }

  /** @throws {PeerError} when it breaks off, or was cancelled */
  async next(): Promise<Uint8Array | undefined> {
    if (this.#state === 'new') this.#state = 'reading'
    try {
      if (this.#left === 0) return this.#finish()
      if (this.#state === 'cancelled') throw new Error('the body was cancelled')
      return await this.#advance()
    } catch (error) {
      this.#end('cancelled', false)
      throw peerErrorOf(error)
    }
  }

  async cancel(): Promise<void> {
    if (this.#left === 0) this.#finish()
    else if (this.#state === 'new' && this.#isShort) await this.#discard()
    else this.#end('cancelled', false)
  }

  async #advance(): Promise<Uint8Array> {
    if (this.#rest.length === 0) {
      const chunk = await this.#connection.next()
      if (chunk === undefined) throw new TruncatedError(`the connection ended ${this.#left} bytes before the body`)
      this.#rest = chunk
    }
    const data = this.#rest.subarray(0, this.#left)
    this.#rest = this.#rest.subarray(data.length)
    this.#left -= data.length
    return data
  }

  /** All of it was given, and taken. */
  #finish(): undefined {
    this.#end('over', this.#rest.length === 0)
  }

  /** Reads what nobody waits for, so that the connection can be used again. */
  async #discard(): Promise<void> {
    this.#state = 'reading'
    const timer = setTimeout(() => this.#end('cancelled', false), this.#options.discardTimeout)
    try {
      while (this.#state === 'reading' && this.#left > 0) await this.#advance()
      this.#finish()
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
