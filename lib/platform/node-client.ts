import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Client } from './send.ts'

/** The client of a `node:http` exchange. */
export class NodeClient implements Client {
  readonly #incoming: IncomingMessage
  readonly #outgoing: ServerResponse
  /** Whether it has left. */
  gone = false

  constructor(incoming: IncomingMessage, outgoing: ServerResponse) {
    this.#incoming = incoming
    this.#outgoing = outgoing
  }

  get method(): string {
    return this.#incoming.method ?? ''
  }

  get headSent(): boolean {
    return this.#outgoing.headersSent
  }

  writeHead(status: number, headers: Headers): void {
    this.#outgoing.writeHead(status, Object.fromEntries(headers))
  }

  flushHead(): void {
    this.#outgoing.flushHeaders()
  }

  write(chunk: Uint8Array, written: () => void): void {
    // `drain` would not do: it does not come for little data, which still lies in that memory.
    this.#outgoing.write(chunk, written)
  }

  end(): void {
    this.#outgoing.end()
  }

  cut(): void {
    this.#outgoing.socket?.destroySoon()
  }

  drop(): void {
    // destroySoon would wait for the client to take the rest.
    this.#incoming.socket.destroy()
  }

  onLeave(left: () => void): Disposable {
    // A pipelined response has no connection of its own yet, but its request does.
    const ends = [this.#outgoing, this.#incoming.socket] as const
    const leave = () => {
      this.gone = true
      left()
    }
    for (const end of ends) end.on('close', leave)
    if (ends.some(({ destroyed }) => destroyed)) leave()
    return {
      [Symbol.dispose]: () => {
        for (const end of ends) end.off('close', leave)
      },
    }
  }
}
