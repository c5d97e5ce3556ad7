/** The datagram sockets of one runtime, or of a simulated network. */
export interface DatagramBackend {
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
  /** Sends a datagram. The bytes must not change any more. */
  send(bytes: Uint8Array, port: number, host: string): void
  /** Closes the socket. Resolves when its port is free. Called once. */
  close(): Promise<void>
}

/**
 * Receive buffer to ask the system for, in bytes. The usual 208 KiB of Linux hold some 250 small datagrams, and all nodes of a
 * cluster may ask one at the same moment. The system gives what net.core.rmem_max allows.
 */
export const RECEIVE_BUFFER = 1024 * 1024

/** Makes datagrams worthless to everybody who does not hold a key. */
export interface DatagramSeal {
  seal(datagram: Uint8Array): Uint8Array
  /** What was sealed, or undefined if it is refused. Valid until the next call. */
  open(sealed: Uint8Array, port: number, host: string): Uint8Array | undefined
}

/** The same sockets for holders of the key: every datagram that leaves is sealed, and one that does not open is dropped. */
export function createSealedBackend(inner: DatagramBackend, seal: DatagramSeal): DatagramBackend {
  return {
    bind(options, onDatagram) {
      const socket = inner.bind(options, (bytes, port, host) => {
        const datagram = seal.open(bytes, port, host)
        if (datagram !== undefined) onDatagram(datagram, port, host)
      })
      return {
        port: socket.port,
        send: (bytes, port, host) => socket.send(seal.seal(bytes), port, host),
        close: () => socket.close(),
      }
    },
  }
}
