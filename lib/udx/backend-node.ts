import dgram from 'node:dgram'
import {
  type BindOptions,
  type DatagramBackend,
  type DatagramSocket,
  DEFAULT_TTL,
  type OnDatagram,
  RECEIVE_BUFFER,
} from './backend.ts'

/**
 * What Deno allocates and fills with zeros for each datagram, in bytes, instead of 64 KiB; in fact twice this. Neither UDX nor
 * the DHT sends more than 1500 bytes, and longer datagrams arrive cut off. The system's own buffer keeps its size.
 */
const DENO_RECEIVE_BUFFER = 2048

const isDeno = 'Deno' in globalThis

type Lookup = (host: string, options: unknown, callback: (error: null, address: string, family: number) => void) => void

/** Only IP addresses come in. Answering at once makes bind() synchronous and send() cheap. */
const lookup: Lookup = (host, _options, callback) => callback(null, host, 4)

/** Sockets of node:dgram, for Node and Deno. */
export const nodeBackend: DatagramBackend = {
  overhead: 0,
  bind: (options, onDatagram) => new NodeDatagramSocket(options, onDatagram),
}

class NodeDatagramSocket implements DatagramSocket {
  readonly port: number
  readonly #socket: dgram.Socket
  /** Datagrams that the system has not taken yet. On Deno a socket that closes drops them, and never says that it is closed. */
  #pending = 0
  #closed = false

  constructor({ port, host }: BindOptions, onDatagram: OnDatagram) {
    const socket = dgram.createSocket({ type: 'udp4', lookup: lookup as never })
    let failure: Error | undefined
    // Only binding fails as a whole; later errors are of single datagrams.
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

  send(bytes: Uint8Array, port: number, host: string, done: () => void): void {
    if (this.#closed) return
    this.#pending++
    // A datagram that the system refuses is a lost datagram. Without a callback node:dgram would emit an error.
    this.#socket.send(bytes, 0, bytes.length, port, host, () => {
      done()
      this.#onSent()
    })
  }

  sendNow(bytes: Uint8Array, port: number, host: string, ttl: number): Promise<boolean> {
    if (this.#closed) return Promise.resolve(false)
    return new Promise((resolve) => {
      // The time to live belongs to the socket. Unless its send buffer is full, send() hands the datagram to the system at once.
      if (ttl !== DEFAULT_TTL) this.#socket.setTTL(ttl)
      this.#pending++
      this.#socket.send(bytes, 0, bytes.length, port, host, (error) => {
        this.#onSent()
        resolve(error === null)
      })
      if (ttl !== DEFAULT_TTL) this.#socket.setTTL(DEFAULT_TTL)
    })
  }

  close(): Promise<void> {
    this.#closed = true
    return new Promise((resolve) => {
      this.#socket.once('close', resolve)
      if (this.#pending === 0) this.#socket.close()
    })
  }

  #onSent(): void {
    this.#pending--
    if (this.#closed && this.#pending === 0) this.#socket.close()
  }
}

/** For speed only: without it a fast sender has to send more packets again. */
function enlargeReceiveBuffer(socket: dgram.Socket): void {
  try {
    socket.setRecvBufferSize(RECEIVE_BUFFER)
  } catch {
    // Linux gives what it has; other systems refuse what is above their limit, and keep the buffer that they have.
  }
}
