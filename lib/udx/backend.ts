/** The datagram sockets of one runtime, or of a simulated network. */
export interface DatagramBackend {
  /**
   * Binds synchronously to a port, 0 for any free one, of an IPv4 address of this machine, or of 0.0.0.0.
   *
   * @throws the system's error, with its `code` (EADDRINUSE, EADDRNOTAVAIL)
   */
  bind(address: { readonly port: number; readonly host: string }, onDatagram: OnDatagram): DatagramSocket
}

/**
 * Takes a datagram. The bytes are valid only during the call: the runtime may reuse their memory, or they may keep much more
 * memory alive.
 */
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
 * The receive buffer to ask the system for, in bytes. Linux' usual 208 KiB hold some 250 small datagrams, but all nodes of a
 * cluster may ask one node at the same moment. The system gives what net.core.rmem_max allows.
 */
export const RECEIVE_BUFFER = 1024 * 1024
