import dgram from 'node:dgram'
import type { Backend, BindOptions, DatagramEvents, DatagramSocket, LocalAddress } from './backend.ts'
import { familyOf } from './ip.ts'

/**
 * Receive buffer asked for, in bytes: a sender at 100 MB/s fills the usual 208 KiB of Linux in 2 ms, less than a collection
 * of garbage takes. The system gives what net.core.rmem_max allows.
 */
const RECEIVE_BUFFER = 1024 * 1024

/**
 * What Deno allocates, and fills with zeros, for each datagram, in bytes, instead of 64 KiB; twice as much, to be exact. UDX has no
 * packets of more than 1500, nor has the DHT, and longer ones arrive cut off. The system's own buffer stays as it is there.
 */
const DENO_RECEIVE_BUFFER = 2048

/** What a packet gets when nobody says otherwise: the default of Linux, and of the addon. */
const DEFAULT_TTL = 64

/** Deno implements node:dgram, with two differences that matter here; see the uses. */
const isDeno = 'Deno' in globalThis

type Lookup = (host: string, options: unknown, callback: (error: null, address: string, family: number) => void) => void

/** Addresses come in as IP addresses only. Answering at once makes bind() synchronous and send() cheap. */
const lookup: Lookup = (host, _options, callback) => callback(null, host, familyOf(host) ?? 4)

/** Sockets of node:dgram: for Node and Deno. */
export const nodeBackend: Backend = {
  bind: (options, events) => new NodeSocket(options, events),
}

class NodeSocket implements DatagramSocket {
  readonly address: LocalAddress
  readonly #socket: dgram.Socket
  /** Datagrams that wait until one with its own time to live is gone; undefined if there is none. */
  #held: (() => void)[] | undefined
  #closed = false

  constructor(options: BindOptions, events: DatagramEvents) {
    const socket = dgram.createSocket({
      type: familyOf(options.host) === 6 ? 'udp6' : 'udp4',
      reuseAddr: options.reuseAddress,
      ipv6Only: options.ipv6Only,
      lookup: lookup as never,
    })
    let failure: Error | undefined
    let bound = false
    socket.on('error', (error) => {
      if (bound) events.error(error)
      else failure = error
    })
    socket.on('message', (bytes, from) => events.message(bytes, from.port, from.address))
    socket.bind({ port: options.port, address: options.host, exclusive: true })
    if (failure !== undefined) {
      socket.close()
      throw failure
    }
    bound = true
    const { address, port } = socket.address()
    this.address = { host: address, port }
    this.#socket = socket
    if (isDeno) socket.setRecvBufferSize(DENO_RECEIVE_BUFFER)
    else enlargeReceiveBuffer(socket)
  }

  send(bytes: Buffer, port: number, host: string): void {
    if (this.#closed) return
    if (this.#held === undefined) this.#socket.send(bytes, 0, bytes.length, port, host, ignore)
    else this.#held.push(() => this.send(bytes, port, host))
  }

  sendNow(bytes: Buffer, port: number, host: string, ttl: number | undefined): Promise<boolean> {
    return new Promise((resolve) => {
      const go = () => {
        if (this.#closed) return resolve(false)
        if (ttl === undefined || ttl === DEFAULT_TTL) {
          this.#socket.send(bytes, 0, bytes.length, port, host, (error) => resolve(error === null))
          return
        }
        // The time to live belongs to the socket, not to the datagram: nothing else leaves before this one is gone.
        this.#held = []
        this.#socket.setTTL(ttl)
        this.#socket.send(bytes, 0, bytes.length, port, host, (error) => {
          if (!this.#closed) this.#socket.setTTL(DEFAULT_TTL)
          this.#release()
          resolve(error === null)
        })
      }
      if (this.#held === undefined) go()
      else this.#held.push(go)
    })
  }

  close(): Promise<void> {
    this.#closed = true
    this.#release()
    return new Promise((resolve) => {
      this.#socket.close(resolve)
    })
  }

  #release(): void {
    const held = this.#held
    this.#held = undefined
    for (const send of held ?? []) send()
  }
}

/** For speed only: without it a fast sender has to send more packets again. @returns whether the system agreed. */
function enlargeReceiveBuffer(socket: dgram.Socket): boolean {
  try {
    socket.setRecvBufferSize(RECEIVE_BUFFER)
    return true
  } catch {
    // Linux gives what it has; other systems refuse what is above their limit.
    return false
  }
}

/** A datagram that the system refuses is a lost datagram; whoever needs it sends it again. */
function ignore(): void {
  // Given so that node:dgram does not emit an error.
}
