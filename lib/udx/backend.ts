import { isIPv4 } from 'node:net'

/** The datagram sockets of one runtime, or of a simulated network. */
export interface DatagramBackend {
  /** Bytes that it adds to each datagram. */
  readonly overhead: number
  /** Binds synchronously. @throws the system's error, with its `code` (EADDRINUSE, EADDRNOTAVAIL). */
  bind(options: BindOptions, onDatagram: OnDatagram): DatagramSocket
}

export interface BindOptions {
  /** 0 for any free port. */
  readonly port: number
  /** IPv4 address of one of this machine's interfaces, or 0.0.0.0. */
  readonly host: string
}

/** Takes a datagram. The bytes are valid during the call only: the runtime may reuse them, or hold far more memory for them. */
export type OnDatagram = (bytes: Uint8Array, port: number, host: string) => void

/** A bound datagram socket of the runtime. Datagrams that cannot be sent are lost without an error, as on a network. */
export interface DatagramSocket {
  /** The port that it is bound to. */
  readonly port: number
  /**
   * Takes a datagram to be sent, at the latest by the next {@link flush} if there is one. The bytes must not change before
   * `done` is called, when they have been sent; never, if the datagram is dropped.
   */
  send(bytes: Uint8Array, port: number, host: string, done: () => void): void
  /** Sends what {@link send} has collected. Called once per turn of the event loop. Missing where nothing is collected. */
  flush?(): void
  /** Sends one datagram at once, with its own time to live in hops. @returns whether the system took it. */
  sendNow(bytes: Uint8Array, port: number, host: string, ttl: number): Promise<boolean>
  /** Closes the socket. Resolves when its port is free. Called once. */
  close(): Promise<void>
}

/** Time to live in hops of an ordinary datagram: the default of Linux, and of the addon. */
export const DEFAULT_TTL = 64

/**
 * Receive buffer to ask the system for, in bytes: a sender at 100 MB/s fills the usual 208 KiB of Linux in 2 ms, less than a
 * garbage collection takes. The system gives what net.core.rmem_max allows.
 */
export const RECEIVE_BUFFER = 1024 * 1024

/**
 * Checks an address.
 *
 * @throws {Error} if it is not an IPv4 address. It is a plain Error, as with the addon: hyperdht takes a TypeError or RangeError
 * for a mistake of its own and ends the process, and addresses come from other nodes.
 */
export function requireIPv4(host: string): void {
  if (!isIPv4(host)) throw new Error(`${host} is not a valid IP address`)
}

/** Whether a datagram can go to that port. */
export function isPort(port: number): boolean {
  return Number.isInteger(port) && port > 0 && port < 65536
}

/** Makes datagrams worthless to everybody who does not hold a key. */
export interface DatagramSeal {
  /** Bytes that sealing adds to a datagram. */
  readonly overhead: number
  seal(datagram: Uint8Array): SealedDatagram
  /** What was sealed, or undefined if it is refused. Valid until the next call. */
  open(sealed: Uint8Array, port: number, host: string): Uint8Array | undefined
}

export interface SealedDatagram {
  readonly bytes: Uint8Array
  /** The bytes have been sent: their memory may be used again. */
  readonly release: () => void
}

/** The same sockets for holders of the key: every datagram that leaves is sealed, and one that does not open is dropped. */
export function createSealedBackend(inner: DatagramBackend, seal: DatagramSeal): DatagramBackend {
  return {
    overhead: inner.overhead + seal.overhead,
    bind(options, onDatagram) {
      const socket = inner.bind(options, (bytes, port, host) => {
        const datagram = seal.open(bytes, port, host)
        if (datagram !== undefined) onDatagram(datagram, port, host)
      })
      const flush = socket.flush?.bind(socket)
      return {
        port: socket.port,
        send(bytes, port, host, done) {
          const sealed = seal.seal(bytes)
          done()
          socket.send(sealed.bytes, port, host, sealed.release)
        },
        ...(flush && { flush }),
        async sendNow(bytes, port, host, ttl) {
          const sealed = seal.seal(bytes)
          const sent = await socket.sendNow(sealed.bytes, port, host, ttl)
          sealed.release()
          return sent
        },
        close: () => socket.close(),
      }
    },
  }
}
