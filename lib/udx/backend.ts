/** Where a datagram socket is bound. */
export interface LocalAddress {
  readonly host: string
  readonly port: number
}

/** What a bound socket tells its owner. */
export interface DatagramEvents {
  /** A datagram. The bytes belong to the callee, and `retainable` of the backend says whether they are cheap to keep. */
  message(bytes: Buffer, port: number, host: string): void
  /** Something failed on the socket as a whole. Single datagrams that cannot be sent are lost silently, as UDP does. */
  error(error: Error): void
}

export interface BindOptions {
  /** 0 for any free port. */
  readonly port: number
  /** IP address of one of this machine's interfaces, or the unspecified one. */
  readonly host: string
  readonly reuseAddress: boolean
  readonly ipv6Only: boolean
}

/** A bound datagram socket of the runtime. */
export interface DatagramSocket {
  readonly address: LocalAddress
  /** Hands a datagram over, at the latest with the next {@link flush}, if there is that. The bytes must stay unchanged for ever. */
  send(bytes: Buffer, port: number, host: string): void
  /** Sends what {@link send} has collected. Called once per turn of the event loop. Missing where nothing is collected. */
  flush?(): void
  /**
   * Sends one datagram at once with its own time to live (`undefined`: the default).
   *
   * @returns whether the system took it
   */
  sendNow(bytes: Buffer, port: number, host: string, ttl: number | undefined): Promise<boolean>
  /** Closes the socket and gives its port back. Called once. */
  close(): Promise<void>
}

/** Datagram sockets of one runtime, or of a simulated network. */
export interface Backend {
  /** Binds synchronously. @throws the system's error, with its `code` (EADDRINUSE, EADDRNOTAVAIL). */
  bind(options: BindOptions, events: DatagramEvents): DatagramSocket
}
