import { ChunkedDecoder } from './chunked.ts'
import { TruncatedError } from './error.ts'
import type { Framing } from './head.ts'

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
