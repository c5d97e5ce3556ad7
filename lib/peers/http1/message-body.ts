import type { ByteSource } from '../../platform/byte-source.ts'
import { type BodyDecoder, bodyDecoder } from './body.ts'
import type { Framing } from './head.ts'

/** Longest body that is read to keep its connection, in bytes: an error's, or a small manifest's. */
const DISCARD_LIMIT = 16 * 1024

/** The body of an answer, in the memory of its connection: a chunk is good until the next one is asked for. */
export class MessageBody implements ByteSource {
  readonly #connection: ByteSource
  readonly #decoder: BodyDecoder
  readonly #discardTimeout: number
  readonly #over: (usable: boolean) => void
  /** Whether so little is to come that it may be read for nothing. */
  readonly #isShort: boolean
  #rest: Uint8Array
  #state: 'new' | 'reading' | 'over' | 'cancelled' = 'new'

  /**
   * @param rest bytes of the connection that came with the head
   * @param discardTimeout milliseconds within which a short body that nobody wants must be there
   * @param over told once, when the connection is not needed any more: whether it stands at the end of this message
   */
  constructor(
    connection: ByteSource,
    framing: Framing,
    rest: Uint8Array,
    discardTimeout: number,
    over: (usable: boolean) => void,
  ) {
    this.#connection = connection
    this.#decoder = bodyDecoder(framing)
    this.#discardTimeout = discardTimeout
    this.#over = over
    this.#isShort = framing.kind === 'length' && framing.length <= DISCARD_LIMIT
    this.#rest = rest
    if (this.#decoder.done) this.#end('over', rest.length === 0)
  }

  async next(): Promise<Uint8Array | undefined> {
    if (this.#state === 'new') this.#state = 'reading'
    try {
      for (;;) {
        if (this.#state === 'cancelled') throw new Error('the body was cancelled')
        if (this.#state === 'over') return undefined
        const data = await this.#read()
        if (data.length > 0) return data
      }
    } catch (error) {
      this.#end('cancelled', false)
      throw error
    }
  }

  async cancel(): Promise<void> {
    if (this.#state === 'new' && this.#isShort) await this.#discard()
    else this.#end('cancelled', false)
  }

  /** Reads once from the connection if nothing is left of what came before; gives an empty chunk for what is no content. */
  async #read(): Promise<Uint8Array> {
    if (this.#rest.length === 0) {
      const chunk = await this.#connection.next()
      if (chunk === undefined) {
        this.#decoder.end()
        this.#end('over', false)
        return this.#rest
      }
      this.#rest = chunk
    }
    const { data, rest } = this.#decoder.decode(this.#rest)
    this.#rest = rest
    if (!this.#decoder.done || this.#state !== 'reading') return data
    // The connection may be used by others from here on, and its memory with it. (`slice` of a Buffer would not copy.)
    const last = new Uint8Array(data)
    this.#end('over', rest.length === 0)
    return last
  }

  /** Gets rid of a short body that nobody wants, so that its connection can be used again. */
  async #discard(): Promise<void> {
    this.#state = 'reading'
    const timer = setTimeout(() => this.#end('cancelled', false), this.#discardTimeout)
    try {
      while (this.#state === 'reading') await this.#read()
    } catch {
      // A connection that breaks while its body is thrown away is of no interest to anybody.
      this.#end('cancelled', false)
    } finally {
      clearTimeout(timer)
    }
  }

  #end(state: 'over' | 'cancelled', usable: boolean): void {
    if (this.#state === 'over' || this.#state === 'cancelled') return
    this.#state = state
    this.#over(usable)
  }
}
