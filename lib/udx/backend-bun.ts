import { createRequire } from 'node:module'
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

/**
 * Receive buffer asked for, in bytes: a sender at 100 MB/s fills the usual 208 KiB of Linux in 2 ms, less than a collection
 * of garbage takes. The system gives what net.core.rmem_max allows.
 */
const RECEIVE_BUFFER = 1024 * 1024

/** Linux's numbers for setsockopt(2). */
const SOL_SOCKET = 1
const SO_RCVBUF = 8

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
    if (socket.fd !== undefined) enlargeReceiveBuffer(socket.fd)
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

interface BunFfi {
  dlopen(
    path: string,
    symbols: Record<'setsockopt', { args: readonly string[]; returns: string }>,
  ): {
    symbols: { setsockopt(fd: number, level: number, name: number, value: Uint8Array, length: number): number }
    close(): void
  }
}

/** Bun has no call for this. It is for speed only: without it a fast sender has to send more packets again. */
function enlargeReceiveBuffer(fd: number): boolean {
  if (process.platform !== 'linux') return false
  const { dlopen } = createRequire(import.meta.url)('bun:ffi') as BunFfi
  try {
    const libc = dlopen('libc.so.6', { setsockopt: { args: ['i32', 'i32', 'i32', 'ptr', 'u32'], returns: 'i32' } })
    const value = Buffer.alloc(4)
    value.writeInt32LE(RECEIVE_BUFFER)
    const done = libc.symbols.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, value, value.length) === 0
    libc.close()
    return done
  } catch {
    // Another C library than glibc.
    return false
  }
}
