import { onAbort } from '../../platform/abort.ts'
import type { ByteSource } from '../../platform/byte-source.ts'
import { type SocketAddress, SocketSource } from '../../platform/socket-source.ts'
import { messageBody } from './body.ts'
import { headOf } from './head.ts'

export interface ConnectionEvents {
  /** Called when the connection may be used again. It is watched until then. */
  readonly onIdle: () => void
  /** Called once, when the connection cannot be used any more. */
  readonly onClose: () => void
}

export interface PeerReply {
  readonly status: number
  readonly headers: Headers
  /**
   * Read it to its end or cancel it. Only the reader knows how long a byte is worth waiting for, and cancels the body after
   * that.
   */
  readonly body: ByteSource
}

/** One connection to a peer, with one exchange after another. */
export class Connection {
  /** Whether a byte of the answer to the last request has come. */
  hasAnswered = false
  readonly #source: SocketSource
  readonly #events: ConnectionEvents
  /** The read that watches an idle connection, and becomes the first read of the next exchange. */
  #watch: Promise<Uint8Array | undefined> | undefined
  #closed = false

  constructor(address: SocketAddress, events: ConnectionEvents) {
    this.#source = new SocketSource(address)
    this.#events = events
  }

  /**
   * Sends a request and waits for the head of its answer.
   *
   * @param request the text to send
   * @param signal ends the connection until the head is there
   * @throws the signal's reason, if the signal aborted
   * @throws {Error} if the connection cannot be opened, breaks, or does not answer in HTTP/1.1
   */
  async exchange(request: string, method: 'GET' | 'HEAD', signal: AbortSignal): Promise<PeerReply> {
    using _ = onAbort(signal, () => this.destroy())
    const first = this.#watch
    this.#watch = undefined
    this.hasAnswered = false
    try {
      await this.#source.opened
      this.#source.write(request)
      const { head, rest } = await this.#readHead(method, first)
      // The head may have come at the moment when the signal aborted.
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

  /** Ends the connection at once. */
  destroy(): void {
    if (this.#closed) return
    this.#closed = true
    void this.#source.cancel()
    this.#events.onClose()
  }

  async #readHead(method: 'GET' | 'HEAD', first = this.#source.next()) {
    let chunk = await first
    let before = new Uint8Array(0)
    for (;;) {
      if (chunk === undefined) throw new Error('the connection was closed before the answer')
      this.hasAnswered = true
      const bytes = before.length === 0 ? chunk : Buffer.concat([before, chunk])
      const found = headOf(bytes, method)
      if (found !== undefined) return found
      // The next read may overwrite these bytes, so copy them. (`slice` of a Buffer would not copy.)
      before = new Uint8Array(bytes)
      chunk = await this.#source.next()
    }
  }

  #release(): void {
    if (this.#closed) return
    const watch = this.#source.next()
    this.#watch = watch
    // Nothing may come now: neither the end, nor bytes that would be taken for the next answer.
    const unasked = () => {
      if (this.#watch === watch) this.destroy()
    }
    watch.then(unasked, unasked)
    this.#events.onIdle()
  }
}
