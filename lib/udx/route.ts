/** Sends the packets of a stream. */
export interface PacketSocket {
  /** Takes a packet, which leaves at the end of the turn. The bytes must never change again. */
  transmit(bytes: Uint8Array, port: number, host: string): void
}

/** Where the packets of a stream go: from which socket, to which address, and to which stream there. */
export interface Route {
  readonly socket: PacketSocket
  readonly remoteId: number
  readonly port: number
  readonly host: string
}
