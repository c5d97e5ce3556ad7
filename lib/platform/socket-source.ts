import { connect, type Socket } from 'node:net'
import { Duplex } from 'node:stream'
import { connect as connectTls } from 'node:tls'
import type { ByteSource } from './byte-source.ts'
import type { MutualTls } from './listener.ts'
import { freeMemory, runtimeName } from './runtime.ts'

/** The client's certificate and key, the authorities that it trusts, and the name that the server's certificate must have. */
export interface ClientTls extends MutualTls {
  readonly servername: string
}

export interface SocketAddress {
  readonly host: string
  readonly port: number
  /** With it, the client speaks TLS 1.3, and only with a server of that name; plain TCP if missing. */
  readonly tls?: ClientTls | undefined
  /**
   * The TLS session of the last connection to this server. With it, the next handshake needs no certificates and no signatures.
   */
  readonly session?: TlsSession | undefined
}

/** Deno 2.9 gives no tickets, so each of its connections needs a full handshake. */
export interface TlsSession {
  ticket?: Buffer | undefined
}

/**
 * Longest chunk in bytes, and the memory of each connection. With half of it, a mirror needed more processor time per byte (a
 * third on Node, a fifth on Deno, a tenth on Bun); with twice as much, hardly less.
 */
const CHUNK = 128 * 1024

/**
 * The bytes that come over a TCP or TLS connection to a server, with back-pressure that reaches the kernel: at most one read is
 * ahead of the reader.
 *
 * A chunk stays intact until the next call of {@link next}, which uses its memory again.
 */
export class SocketSource implements ByteSource {
  readonly #socket: Socket
  /** The connection under {@link #socket}, where only that one can be paused. */
  #carrier: Socket | undefined
  /** Whether reads are short, as under TLS, so that several may wait to be joined. */
  readonly #isShort: boolean
  readonly #opened = Promise.withResolvers<void>()
  /** Resolves when the connection is open and, under TLS, the other side has proved its identity; rejects if that fails. */
  readonly opened = this.#opened.promise
  /** Chunks that have come and were not handed out yet. Under TLS one read gives several. */
  readonly #chunks: Uint8Array[] = []
  /** Their bytes. */
  #waits = 0
  /** The chunk that was handed out last. */
  #lent: Uint8Array | undefined
  #waiting: PromiseWithResolvers<Uint8Array | undefined> | undefined
  /** Whether the connection is paused. */
  #stopped = true
  #ended = false
  #failure: Error | undefined

  /** Begins to connect; see {@link opened}. */
  constructor(address: SocketAddress) {
    this.#isShort = address.tls !== undefined
    this.#socket = this.#connect(address)
    this.#socket.once(address.tls === undefined ? 'connect' : 'secureConnect', () => this.#opened.resolve())
    this.#socket.on('end', () => {
      this.#ended = true
      this.#tell()
    })
    this.#socket.on('error', (error) => this.#fail(error))
    this.#socket.on('close', () => this.#fail(new Error('the connection was closed')))
    // A reader that does not wait for `opened` gets the failure from `next`.
    this.opened.catch(() => undefined)
  }

  /** Sends text over the open connection. A failure ends the connection; {@link next} throws it. */
  write(text: string): void {
    this.#socket.write(text, 'latin1')
  }

  /**
   * The next chunk; `undefined` when the other side has ended the connection in order.
   *
   * @throws {Error} when the connection broke or was cancelled
   */
  next(): Promise<Uint8Array | undefined> {
    if (this.#lent !== undefined) free(this.#lent)
    this.#lent = undefined
    this.#waiting = Promise.withResolvers()
    const { promise } = this.#waiting
    this.#tell()
    const wanted = this.#isShort ? this.#waits < CHUNK : this.#waiting !== undefined
    if (this.#stopped && wanted) {
      this.#stopped = false
      this.#pausable.resume()
    }
    return promise
  }

  async cancel(): Promise<void> {
    this.#fail(new Error('the connection was closed'))
    this.#socket.destroy()
    this.#carrier?.destroy()
  }

  get #pausable(): Socket {
    return this.#carrier ?? this.#socket
  }

  #connect({ host, port, tls, session = {} }: SocketAddress): Socket {
    // On Node and Deno, reading into the same buffer again and again takes half the memory of `data` events (64 and 71 MiB
    // against 130 and 165 with 50 slow readers) and half the time. It cannot be used under TLS, where Node overwrites records
    // that are still held, nor on Bun 1.4.5, where it fails with ENOBUFS.
    const plain = { host, port, noDelay: true }
    if (tls === undefined && runtimeName !== 'bun') {
      const buffer = Buffer.allocUnsafeSlow(CHUNK)
      const callback = (length: number) => {
        this.#take(buffer.subarray(0, length))
        return this.#stop()
      }
      return connect({ ...plain, onread: { buffer, callback } })
    }
    // Deno 2.9 reads on under TLS while that socket is paused, and may then lose its end.
    if (tls !== undefined && runtimeName === 'deno') this.#carrier = connect(plain)
    const socket =
      tls === undefined
        ? connect(plain)
        : connectTls({
            ...(this.#carrier === undefined ? plain : { socket: relayed(this.#carrier) }),
            ...tls,
            ca: [...tls.ca],
            session: session.ticket,
            minVersion: 'TLSv1.3',
            rejectUnauthorized: true,
          })
    socket.on('session', (ticket: Buffer) => {
      session.ticket = ticket
    })
    if (runtimeName === 'bun') this.#takePushed(socket)
    else {
      socket.on('data', (chunk: Uint8Array) => {
        this.#take(chunk)
        if (this.#waits < CHUNK) return
        this.#stop()
        this.#pausable.pause()
      })
    }
    return socket
  }

  /**
   * On Bun a connection stops only when its stream refuses a pushed chunk. `pause` stops only the stream, which then takes
   * another chunk of up to 512 KiB: 25 MiB with 50 slow readers.
   */
  #takePushed(socket: Socket): void {
    const push = socket.push.bind(socket)
    socket.push = (chunk: Uint8Array | null) => {
      if (chunk === null) return push(chunk)
      this.#take(chunk)
      return this.#waits < CHUNK || this.#stop()
    }
  }

  /** Returns false, which tells the connection to pause. */
  #stop(): false {
    this.#stopped = true
    return false
  }

  #take(chunk: Uint8Array): void {
    if (chunk.length === 0) return
    this.#chunks.push(chunk)
    this.#waits += chunk.length
    this.#tell()
  }

  #fail(error: Error): void {
    this.#failure ??= error
    this.#opened.reject(this.#failure)
    this.#tell()
  }

  /** Answers the waiting read if something has come: first the chunks, then the end or the failure. */
  #tell(): void {
    const waiting = this.#waiting
    if (waiting === undefined) return
    const chunk = this.#shift()
    if (chunk === undefined && !this.#ended && this.#failure === undefined) return
    this.#waiting = undefined
    if (chunk !== undefined || this.#ended) waiting.resolve(chunk)
    else waiting.reject(this.#failure)
  }

  #shift(): Uint8Array | undefined {
    const [first, second] = this.#chunks
    if (first === undefined) return undefined
    if (second !== undefined && first.length + second.length <= CHUNK) return this.#joined()
    const chunk = first.subarray(0, CHUNK)
    if (chunk.length === first.length) this.#chunks.shift()
    else this.#chunks[0] = first.subarray(CHUNK)
    this.#waits -= chunk.length
    this.#lent = chunk
    return chunk
  }

  /** Joins short chunks into one: a TLS record has 16 KiB, and each chunk costs the same, whatever its length. */
  #joined(): Uint8Array {
    let count = 0
    let length = 0
    for (const chunk of this.#chunks) {
      if (length + chunk.length > CHUNK) break
      length += chunk.length
      count++
    }
    this.#waits -= length
    // Not `Buffer.concat`, which allocates short buffers from a pool.
    const joined = Buffer.allocUnsafeSlow(length)
    let at = 0
    for (const chunk of this.#chunks.splice(0, count)) {
      joined.set(chunk, at)
      at += chunk.length
      free(chunk)
    }
    this.#lent = joined
    return joined
  }
}

/** A stream that takes and gives whatever a connection does, and at once. */
function relayed(connection: Socket): Duplex {
  const relay = new Duplex({
    read: () => undefined,
    write: (chunk, _encoding, done) => connection.write(chunk, done),
    final: (done) => connection.end(done),
    destroy(error, done) {
      connection.destroy()
      done(error)
    },
  })
  connection.on('data', (chunk) => relay.push(chunk))
  connection.on('end', () => relay.push(null))
  connection.on('error', (error) => relay.destroy(error))
  connection.on('close', () => relay.destroy())
  return relay
}

/** Frees a read of Bun, which has up to 512 KiB, together with its last chunk. */
function free(chunk: Uint8Array): void {
  if (chunk.byteOffset + chunk.length === chunk.buffer.byteLength) freeMemory(chunk)
}
