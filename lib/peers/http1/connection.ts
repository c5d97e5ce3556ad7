import { onAbort } from '../../platform/abort.ts'
import type { ByteSource } from '../../platform/byte-source.ts'
import { type SocketAddress, SocketSource } from '../../platform/socket-source.ts'
import { messageBody } from './body.ts'
import { headOf } from './head.ts'

/** A connection that had been kept for the next request and ended before a byte of its answer. */
export class StaleConnectionError extends Error {
  override readonly name = 'StaleConnectionError'
}

export interface ConnectionEvents {
  /** Told when the connection may be used again; it is watched until it is. */
  readonly onIdle: () => void
  /** Told once, when it cannot be used any more. */
  readonly onClose: () => void
}

export interface PeerReply {
  readonly status: number
  readonly headers: Headers
  /**
   * To be read to its end or cancelled. How long a byte is worth waiting for, only its reader knows: it cancels a body that it
   * waits for no longer.
   */
  readonly body: ByteSource
}

/** One connection to a peer, with one exchange after the other. */
export class Connection {
  readonly #source: SocketSource
  readonly #events: ConnectionEvents
  /** The read that watches an idle connection, and then is the first one of the next exchange. */
  #watch: Promise<Uint8Array | undefined> | undefined
  #closed = false

  constructor(address: SocketAddress, events: ConnectionEvents) {
    this.#source = new SocketSource(address)
    this.#events = events
  }

  /**
   * Sends a request and waits for the head of its answer.
   *
   * @param request as it is sent
   * @param signal ends the connection until the head is there
   * @throws the signal's reason, if that is why there is no answer
   * @throws {StaleConnectionError} if the connection had been used before and ended before a byte of the answer
   * @throws {Error} when it cannot be opened, breaks, or answers with anything but HTTP/1.1
   */
  async exchange(request: string, method: 'GET' | 'HEAD', signal: AbortSignal): Promise<PeerReply> {
    using _ = onAbort(signal, () => this.destroy())
    const first = this.#watch
    this.#watch = undefined
    try {
      await this.#source.opened
      this.#source.write(request)
      const { head, rest } = await this.#readHead(method, first)
      // The head may have come in the moment in which it was too late.
      signal.throwIfAborted()
      const { status, headers, length, keepAlive } = head
      const over = (isUsable: boolean) => (isUsable && keepAlive ? this.#release() : this.destroy())
      return { status, headers, body: messageBody(this.#source, length, rest, over) }
    } catch (error) {
      this.destroy()
      signal.throwIfAborted()
      throw error
    }
  }

  /** Ends it, whatever is under way. */
  destroy(): void {
    if (this.#closed) return
    this.#closed = true
    void this.#source.cancel()
    this.#events.onClose()
  }

  async #readHead(method: 'GET' | 'HEAD', first: Promise<Uint8Array | undefined> | undefined) {
    let chunk = await (first === undefined ? this.#source.next() : unlessStale(first))
    let before = new Uint8Array(0)
    for (;;) {
      if (chunk === undefined) throw new Error('the connection was closed before the answer')
      const bytes = before.length === 0 ? chunk : Buffer.concat([before, chunk])
      const found = headOf(bytes, method)
      if (found !== undefined) return found
      // What was given may be overwritten when more is asked for. (`slice` of a Buffer would not copy.)
      before = new Uint8Array(bytes)
      chunk = await this.#source.next()
    }
  }

  #release(): void {
    if (this.#closed) return
    const watch = this.#source.next()
    this.#watch = watch
    // Whatever comes now was not asked for: its end, or bytes that would be taken for the next answer.
    const unasked = () => {
      if (this.#watch === watch) this.destroy()
    }
    watch.then(unasked, unasked)
    this.#events.onIdle()
  }
}

/** The first read of an exchange on a connection that had been kept. */
async function unlessStale(first: Promise<Uint8Array | undefined>): Promise<Uint8Array> {
  let cause: unknown
  try {
    const chunk = await first
    if (chunk !== undefined) return chunk
  } catch (error) {
    cause = error
  }
  throw new StaleConnectionError('the connection was closed before the answer', { cause })
}
