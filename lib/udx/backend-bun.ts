import { createRequire } from 'node:module'
import b4a from 'b4a'
import {
  type BindOptions,
  type DatagramBackend,
  type DatagramSocket,
  DEFAULT_TTL,
  type OnDatagram,
  RECEIVE_BUFFER,
} from './backend.ts'

/** The part of Bun's udpSocket() that is used here. */
interface BunSocket {
  readonly port: number
  readonly fd?: number
  send(bytes: Uint8Array, port: number, host: string): boolean
  sendMany(packets: readonly (Uint8Array | number | string)[]): number
  setTTL(ttl: number): number
  close(): void
}

interface BunHandlers {
  data(socket: BunSocket, bytes: Uint8Array, port: number, host: string): void
  drain(): void
  error(): void
}

declare const Bun: {
  udpSocket(options: { hostname: string; port: number; socket: BunHandlers }): Promise<BunSocket>
  peek(promise: Promise<BunSocket>): BunSocket | Promise<BunSocket>
}

/** Datagrams given to the system in one call. */
const BATCH = 64

/** Datagrams that may wait for a full send buffer; later ones are lost, as in a router. */
const MAX_WAITING = 4096

/** Linux's numbers for setsockopt(2). */
const SOL_SOCKET = 1
const SO_RCVBUF = 8

/** Sockets of Bun.udpSocket(), which sends many datagrams in one system call. */
export const bunBackend: DatagramBackend = {
  overhead: 0,
  bind: (options, onDatagram) => new BunDatagramSocket(options, onDatagram),
}

class BunDatagramSocket implements DatagramSocket {
  readonly port: number
  readonly #socket: BunSocket
  /** Bytes, port and host of each datagram to be sent, flat, as sendMany() takes them. */
  #batch: (Uint8Array | number | string)[] = []
  /** What to call when each of them is sent. */
  #done: (() => void)[] = []
  #blocked = false
  #closed = false

  constructor({ port, host }: BindOptions, onDatagram: OnDatagram) {
    const opening = Bun.udpSocket({
      hostname: host,
      port,
      socket: {
        data: (_socket, bytes, fromPort, fromHost) => onDatagram(bytes, fromPort, fromHost),
        drain: () => {
          this.#blocked = false
          this.flush()
        },
        // Of a single datagram, which is lost.
        error: () => undefined,
      },
    })
    // The socket is bound when the call returns, although the call returns a promise.
    const socket = Bun.peek(opening)
    if (socket instanceof Promise) throw new Error('Bun.udpSocket() did not bind synchronously')
    this.#socket = socket
    if (socket.fd !== undefined) enlargeReceiveBuffer(socket.fd)
    this.port = socket.port
  }

  send(bytes: Uint8Array, port: number, host: string, done: () => void): void {
    if (this.#done.length >= MAX_WAITING) return
    this.#batch.push(bytes, port, host)
    this.#done.push(done)
    if (this.#done.length >= BATCH) this.flush()
  }

  flush(): void {
    if (this.#blocked || this.#closed || this.#batch.length === 0) return
    const batch = this.#batch
    let sent = this.#done.length
    try {
      sent = this.#socket.sendMany(batch)
    } catch {
      // One datagram that the system refuses (to an unreachable network, say) makes the whole call throw and hides how far it
      // got. Sending all of them again one by one costs duplicates, which the receivers drop.
      for (let i = 0; i < batch.length; i += 3)
        this.#sendOne(batch[i] as Uint8Array, batch[i + 1] as number, batch[i + 2] as string)
    }
    this.#batch = batch.slice(sent * 3)
    this.#blocked = this.#batch.length > 0
    for (const done of this.#done.splice(0, sent)) done()
  }

  sendNow(bytes: Uint8Array, port: number, host: string, ttl: number): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false)
    this.flush()
    // The time to live belongs to the socket.
    if (ttl !== DEFAULT_TTL) this.#socket.setTTL(ttl)
    const sent = this.#sendOne(bytes, port, host)
    if (ttl !== DEFAULT_TTL) this.#socket.setTTL(DEFAULT_TTL)
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

/** The part of bun:ffi that is used here. */
interface BunFfi {
  dlopen(
    path: string,
    symbols: { setsockopt: { args: readonly string[]; returns: string } },
  ): { symbols: { setsockopt(...args: readonly [...number[], Uint8Array, number]): number }; close(): void }
}

/** For speed only: without it a fast sender has to send more packets again. Bun has no call for this. */
function enlargeReceiveBuffer(fd: number): void {
  if (process.platform !== 'linux') return
  const { dlopen } = createRequire(import.meta.url)('bun:ffi') as BunFfi
  try {
    const libc = dlopen('libc.so.6', { setsockopt: { args: ['i32', 'i32', 'i32', 'ptr', 'u32'], returns: 'i32' } })
    const value = b4a.alloc(4)
    b4a.writeInt32LE(value, RECEIVE_BUFFER)
    libc.symbols.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, value, value.length)
    libc.close()
  } catch {
    // There is no glibc here: the buffer stays as it is.
  }
}
