import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { createServer as createTlsServer } from 'node:tls'
import { addressOf } from './address.ts'
import type { Wire } from './client.ts'
import { HttpConnection, type HttpServer } from './http-connection.ts'
import type { Handler, Listener, ListenOptions } from './listener.ts'
import { runtimeName } from './runtime.ts'
import { createServerConnections, type ServerConnection } from './server-connections.ts'

/** The part of Bun's socket API that is used here. */
interface BunSocket {
  /** Missing for a socket that was ended at once. */
  data: { readonly wire: BunWire; readonly connection: HttpConnection } | undefined
  readonly remoteAddress: string
  readonly authorized: boolean
  /** Returns how many bytes were taken; -1 if the socket is closed. */
  write(bytes: Uint8Array): number
  end(): void
  /** (`terminate` sends RST, which discards bytes in flight.) */
  close(): void
}

declare const Bun: {
  listen(options: {
    readonly hostname: string
    readonly port: number
    readonly exclusive: true
    readonly tls?: {
      readonly ca: readonly string[]
      readonly cert: string
      readonly key: string
      readonly requestCert: true
      readonly rejectUnauthorized: true
      readonly minVersion: number
    }
    readonly socket: {
      open(socket: BunSocket): void
      handshake(socket: BunSocket): void
      data(socket: BunSocket, bytes: Uint8Array): void
      drain(socket: BunSocket): void
      close(socket: BunSocket): void
      error(socket: BunSocket): void
    }
  }): { readonly hostname: string; readonly port: number; stop(): void }
}

/** TLS 1.3 as its number on the wire (RFC 8446, section 4.2.1), because Bun wants the number. */
const TLS_1_3 = 0x0304

/** Milliseconds between two looks whether a server on Deno still takes connections; a dead one is silent for at most twice as long. */
const KNOCK_INTERVAL = 5_000

/** A server's socket. */
interface Listening {
  readonly host: string
  readonly port: number
  /** Takes no new connections. */
  stop(): void
}

/**
 * Serves a Web-standard handler over HTTP/1.1. The runtimes' own servers do not end a broken body with FIN (see send.ts), do
 * not tell of silent connections, or take twice the processor time for a byte.
 *
 * @throws the system's error (EADDRINUSE, EACCES, EADDRNOTAVAIL) if the address cannot be bound
 */
export async function listen(handler: Handler, options: ListenOptions): Promise<Listener> {
  const connections = createServerConnections(options.maxConnections, options.newcomers)
  const server: HttpServer = { handler, options, connections, closing: false }
  const { host, port, stop } = await (runtimeName === 'bun' ? listenOnBun(server) : listenOnNode(server))
  return {
    host,
    port,
    get running() {
      return connections.admitted
    },
    async close(drain) {
      await connections.finish(drain)
      server.closing = true
      stop()
      return await connections.drain(drain)
    },
  }
}

/**
 * Listens with Bun's own sockets. `node:net` takes as much processor time on Bun 1.4.5, but more memory: it copies what the
 * system does not take at once, so that 400 slow readers take a quarter to a half more.
 */
function listenOnBun(server: HttpServer): Listening {
  const { options, connections } = server
  const { tls } = options
  const listening = Bun.listen({
    hostname: options.host,
    port: options.port,
    exclusive: true,
    ...(tls === undefined ? {} : { tls: { ...tls, requestCert: true, rejectUnauthorized: true, minVersion: TLS_1_3 } }),
    socket: {
      open(socket) {
        const accepted = connections.accept(socket.remoteAddress, () => socket.close())
        if (accepted === undefined) return socket.close()
        const wire = new BunWire(socket)
        socket.data = { wire, connection: new HttpConnection(wire, accepted, server) }
      },
      // Without this handler, Bun calls `open` only after the handshake.
      handshake: () => undefined,
      data(socket, bytes) {
        if (tls !== undefined && !socket.authorized) socket.close()
        else socket.data?.connection.received(bytes)
      },
      drain: (socket) => socket.data?.wire.drained(),
      close: (socket) => socket.data?.connection.closed(),
      // `close` follows.
      error: () => undefined,
    },
  })
  return { host: listening.hostname, port: listening.port, stop: () => listening.stop() }
}

class BunWire implements Wire {
  readonly #socket: BunSocket
  #unsent: { readonly bytes: Uint8Array; readonly written: () => void } | undefined

  constructor(socket: BunSocket) {
    this.#socket = socket
  }

  write(bytes: Uint8Array, written: () => void): void {
    const taken = this.#socket.write(bytes)
    if (taken === bytes.length) written()
    else this.#unsent = { bytes: bytes.subarray(Math.max(taken, 0)), written }
  }

  drained(): void {
    const unsent = this.#unsent
    this.#unsent = undefined
    if (unsent !== undefined) this.write(unsent.bytes, unsent.written)
  }

  end(): void {
    this.#socket.end()
  }

  close(): void {
    this.#socket.close()
  }
}

async function listenOnNode(server: HttpServer): Promise<Listening> {
  const { options, connections } = server
  const { tls } = options
  /** Connections by {@link remoteOf}, because under TLS the socket that the server accepted is another one. */
  const accepted = new Map<string, ServerConnection>()
  const begin = (socket: Socket) => {
    const connection = accepted.get(remoteOf(socket))
    if (connection === undefined) return socket.destroy()
    const http = new HttpConnection(nodeWire(socket), connection, server)
    socket.on('data', (bytes: Uint8Array) => http.received(bytes))
    socket.once('close', () => http.closed())
    return socket
  }
  const listening = makeServer(tls, begin)
  // Our listener comes before the server's own ones, so that a refused connection costs no TLS handshake.
  const others = listening.listeners('connection')
  listening.removeAllListeners('connection')
  listening.on('connection', (socket: Socket) => {
    // `close` follows.
    socket.on('error', () => undefined)
    const name = remoteOf(socket)
    const connection = connections.accept(String(socket.remoteAddress), () => socket.destroy())
    if (connection === undefined) {
      socket.destroy()
      return
    }
    accepted.set(name, connection)
    socket.once('close', () => {
      connections.remove(connection)
      if (accepted.get(name) === connection) accepted.delete(name)
    })
    for (const other of others) other.call(listening, socket)
  })
  const { address, port } = await bind(listening, options)
  const timer = runtimeName === 'deno' ? keepAccepting(listening, { host: options.host, port }) : undefined
  const stop = () => {
    clearInterval(timer)
    listening.close()
  }
  return { host: address, port, stop }
}

/**
 * Opens a server anew that takes no connections any more. Deno 2.9 never accepts again once it has lacked a descriptor, and tells
 * nobody; the system goes on taking connections, so that clients would wait for ever. Hence the server knocks at its own port.
 */
function keepAccepting(server: Server, address: Pick<ListenOptions, 'host' | 'port'>): NodeJS.Timeout {
  let isAlive = true
  const alive = () => {
    isAlive = true
  }
  server.on('connection', alive)
  const knock = () => {
    // If that fails, the next knock tries again.
    if (!isAlive) bind(server.close(), address).catch(() => undefined)
    isAlive = false
    const client = connect(address, () => client.destroy())
    // There may be no descriptor for this, which says nothing about the server.
    client.once('error', alive)
  }
  return setInterval(knock, KNOCK_INTERVAL).unref()
}

function nodeWire(socket: Socket): Wire {
  return {
    write(bytes, written) {
      // `drain` is not enough: it does not come for small chunks, whose memory is still in use.
      socket.write(bytes, (error) => {
        if (error === null || error === undefined) written()
      })
    },
    end: () => socket.end(),
    // `destroySoon` would wait until the client has taken the rest.
    close: () => socket.destroy(),
  }
}

function makeServer(tls: ListenOptions['tls'], begin: (socket: Socket) => void): Server {
  if (tls === undefined) return createServer({ noDelay: true }, begin)
  const { ca, cert, key } = tls
  return createTlsServer(
    { ca: [...ca], cert, key, requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.3', noDelay: true },
    begin,
  )
}

async function bind(server: Server, { host, port }: Pick<ListenOptions, 'host' | 'port'>): Promise<AddressInfo> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  server.once('error', reject)
  server.listen({ host, port, exclusive: true }, resolve)
  await promise
  server.off('error', reject)
  return server.address() as AddressInfo
}

/** The client's address and port, unique among open connections. */
function remoteOf({ remoteAddress, remotePort }: Socket): string {
  return addressOf({ host: String(remoteAddress), port: Number(remotePort) })
}
