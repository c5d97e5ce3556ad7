import type { ByteSource } from '../../platform/byte-source.ts'
import { ProtocolError } from '../../platform/http-head.ts'
import { PeerError } from '../error.ts'

/**
 * The body of an answer, in the memory of its connection: a chunk is good until the next one is asked for, or the body cancelled.
 * Only then is the connection free, after the last one, too.
 */
export class MessageBody implements ByteSource {
  readonly #connection: ByteSource
  readonly #over: (isUsable: boolean) => void
  #rest: Uint8Array
  /** Bytes that its reader has not got yet. */
  #left: number
  #isOver = false

  /**
   * @param length of the body in bytes
   * @param rest bytes that came with the head
   * @param over told once, when the connection is not needed any more: whether it stands at the end of this message
   */
  constructor(connection: ByteSource, length: number, rest: Uint8Array, over: (isUsable: boolean) => void) {
    this.#connection = connection
    this.#over = over
    this.#rest = rest
    this.#left = length
    if (length === 0) this.#end()
  }

  /** @throws {PeerError} when it breaks off, or was cancelled */
  async next(): Promise<Uint8Array | undefined> {
    try {
      if (this.#left === 0) return this.#end()
      if (this.#isOver) throw new Error('the body was cancelled')
      if (this.#rest.length === 0) {
        const chunk = await this.#connection.next()
        if (chunk === undefined) throw new Error(`the connection ended ${this.#left} bytes before the body`)
        this.#rest = chunk
      }
      const data = this.#rest.subarray(0, this.#left)
      this.#rest = this.#rest.subarray(data.length)
      this.#left -= data.length
      return data
    } catch (error) {
      this.#end()
      throw peerErrorOf(error)
    }
  }

  async cancel(): Promise<void> {
    this.#end()
  }

  /** What has come already need not be read for the connection to be of use again: a short body comes with its head. */
  #end(): undefined {
    if (this.#isOver) return
    this.#isOver = true
    this.#over(this.#rest.length === this.#left)
  }
}

/** A failure of a connection, or of what came over it, as the peer's. */
export function peerErrorOf(error: unknown, where = ''): PeerError {
  if (error instanceof PeerError) return error
  const message = (error instanceof Error && error.message) || 'the connection broke'
  const failure = error instanceof ProtocolError ? 'invalid' : 'unreachable'
  return new PeerError(`${where}${message}`, { failure, cause: error })
}
