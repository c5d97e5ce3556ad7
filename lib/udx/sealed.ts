import type { DatagramBackend } from './backend.ts'

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
