import type { Backend, BindOptions, DatagramEvents, DatagramSocket, LocalAddress } from './backend.ts'

/** The part of Bun's udpSocket() that is used here. */
interface BunSocket {
  readonly hostname: string
  readonly port: number
  readonly fd?: number
  send(bytes: Uint8Array, port: number, host: string): boolean
  sendMany(packets: readonly (Uint8Array | number | string)[]): number
  setTTL(ttl: number): number
  close(): void
}

interface BunHandlers {
  data(socket: BunSocket, bytes: Buffer, port: number, host: string): void
  drain(socket: BunSocket): void
  error(socket: BunSocket, error: Error): void
}

declare const Bun: {
  udpSocket(options: { hostname: string; port: number; socket: BunHandlers }): Promise<BunSocket>
  peek(promise: Promise<BunSocket>): BunSocket | Promise<BunSocket>
}

/** Datagrams given to the system in one call. */
const BATCH = 64

/** Datagrams that may wait for a full send buffer; later ones are lost, as in a router. */
const MAX_WAITING = 4096

/** What a packet gets when nobody says otherwise: the default of Linux, and of the addon. */
const DEFAULT_TTL = 64

/** Sockets of Bun.udpSocket(), which sends many datagrams in one system call. */
export const bunBackend: Backend = {
  bind: (options, events) => new UdpSocket(options, events),
}

class UdpSocket implements DatagramSocket {
  readonly address: LocalAddress
  readonly #socket: BunSocket
  /** Bytes, port and host of each datagram that is to be sent, flat, as sendMany() takes them. */
  #batch: (Uint8Array | number | string)[] = []
  #blocked = false
  #closed = false

  constructor(options: BindOptions, events: DatagramEvents) {
    const opening = Bun.udpSocket({
      hostname: options.host,
      port: options.port,
      socket: {
        data: (_socket, bytes, port, host) => events.message(bytes, port, host),
        drain: () => {
          this.#blocked = false
          this.flush()
        },
        error: (_socket, error) => events.error(error),
      },
    })
    // The socket is bound when the call returns; only the way to it is a promise.
    const socket = Bun.peek(opening)
    if (socket instanceof Promise) throw new Error('Bun.udpSocket() did not bind synchronously')
    this.#socket = socket
    this.address = { host: socket.hostname, port: socket.port }
  }

  send(bytes: Buffer, port: number, host: string): void {
    if (this.#batch.length >= MAX_WAITING * 3) return
    this.#batch.push(bytes, port, host)
    if (this.#batch.length >= BATCH * 3) this.flush()
  }

  flush(): void {
    if (this.#blocked || this.#closed || this.#batch.length === 0) return
    const batch = this.#batch
    let sent = 0
    try {
      sent = this.#socket.sendMany(batch)
    } catch {
      // One datagram that the system refuses (an unreachable network, say) makes the whole call throw and hides how far it
      // got. Sending all of them one by one again costs duplicates, which the receivers drop.
      for (let i = 0; i < batch.length; i += 3)
        this.#sendOne(batch[i] as Uint8Array, batch[i + 1] as number, batch[i + 2] as string)
      this.#batch = []
      return
    }
    if (sent * 3 >= batch.length) {
      this.#batch = []
      return
    }
    this.#batch = batch.slice(sent * 3)
    this.#blocked = true
  }

  sendNow(bytes: Buffer, port: number, host: string, ttl: number | undefined): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false)
    this.flush()
    if (ttl === undefined || ttl === DEFAULT_TTL) return Promise.resolve(this.#sendOne(bytes, port, host))
    this.#socket.setTTL(ttl)
    const sent = this.#sendOne(bytes, port, host)
    this.#socket.setTTL(DEFAULT_TTL)
    return Promise.resolve(sent)
  }

  close(): Promise<void> {
    this.flush()
    this.#closed = true
    this.#socket.close()
    return Promise.resolve()
  }

  /** Sends a datagram, or loses it if the system refuses it, as UDP does. */
  #sendOne(bytes: Uint8Array, port: number, host: string): boolean {
    try {
      return this.#socket.send(bytes, port, host)
    } catch {
      return false
    }
  }
}
