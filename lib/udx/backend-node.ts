import dgram from 'node:dgram'
import {
  type BindOptions,
  type DatagramBackend,
  type DatagramSocket,
  type OnDatagram,
  RECEIVE_BUFFER,
} from './backend.ts'

/**
 * Bytes for Deno's buffer per datagram, which it allocates (twice this, in fact) and zeroes each time, and which otherwise has
 * 64 KiB. Neither UDX nor the DHT sends more than 1500 bytes; longer datagrams arrive truncated. The system's buffer keeps its
 * size.
 */
const DENO_RECEIVE_BUFFER = 2048

const isDeno = 'Deno' in globalThis

type Lookup = (host: string, options: unknown, callback: (error: null, address: string, family: number) => void) => void

/** Hosts are always IP addresses, so it answers at once. That makes bind() synchronous and send() cheap. */
const lookup: Lookup = (host, _options, callback) => callback(null, host, 4)

/** Sockets of node:dgram, for Node and Deno. */
export const nodeBackend: DatagramBackend = {
  bind: (options, onDatagram) => new NodeDatagramSocket(options, onDatagram),
}

class NodeDatagramSocket implements DatagramSocket {
  readonly port: number
  readonly #socket: dgram.Socket
  /** How many datagrams the system has not taken yet. On Deno 2.9, a socket that is closed before that drops them. */
  #pending = 0
  #closed = false

  constructor({ port, host }: BindOptions, onDatagram: OnDatagram) {
    const socket = dgram.createSocket({ type: 'udp4', lookup: lookup as never })
    let failure: Error | undefined
    // Only binding fails as a whole; later errors concern single datagrams.
    socket.on('error', (error) => {
      failure = error
    })
    socket.on('message', (bytes, from) => onDatagram(bytes, from.port, from.address))
    socket.bind({ port, address: host, exclusive: true })
    if (failure !== undefined) {
      socket.close()
      throw failure
    }
    this.port = socket.address().port
    this.#socket = socket
    if (isDeno) socket.setRecvBufferSize(DENO_RECEIVE_BUFFER)
    else enlargeReceiveBuffer(socket)
  }

  send(bytes: Uint8Array, port: number, host: string): void {
    if (this.#closed) return
    this.#pending++
    // A datagram that the system refuses counts as lost. Without a callback node:dgram would emit an error.
    this.#socket.send(bytes, 0, bytes.length, port, host, () => {
      this.#pending--
      this.#closeIfDone()
    })
  }

  close(): Promise<void> {
    this.#closed = true
    return new Promise((resolve) => {
      this.#socket.once('close', resolve)
      this.#closeIfDone()
    })
  }

  #closeIfDone(): void {
    if (this.#closed && this.#pending === 0) this.#socket.close()
  }
}

function enlargeReceiveBuffer(socket: dgram.Socket): void {
  try {
    socket.setRecvBufferSize(RECEIVE_BUFFER)
  } catch {
    // Linux gives as much as its limit allows. Other systems refuse a size above their limit, and keep the old buffer.
  }
}
