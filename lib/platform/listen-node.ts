import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { getRequestListener, type HttpBindings } from '@hono/node-server'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import { addressOf } from './address.ts'
import {
  badRequest,
  type Handler,
  KEEP_ALIVE_TIMEOUT,
  type Listener,
  type ListenOptions,
  MAX_HEAD,
  type MutualTls,
  malformedAnswer,
} from './listener.ts'
import { type Client, respond } from './send.ts'
import { type ServerConnection, ServerConnections } from './server-connections.ts'

/** Milliseconds within which a request's head must be complete, so that a silent client cannot hold a connection. */
const HEADERS_TIMEOUT = 10_000
/**
 * Pipelined requests of a connection at a time; one more ends the connection. No client that pulls images pipelines, and 8,000
 * requests that were answered at once took 2 GiB and 5,000 file descriptors.
 */
const MOST_REQUESTS = 64

/**
 * Serves a handler over `node:http`, on every runtime: it ends a broken body with FIN on all three (see send.ts).
 *
 * @throws the system's error (EADDRINUSE, EACCES, EADDRNOTAVAIL) if the address cannot be bound
 */
export async function listenOnNode(handler: Handler, options: ListenOptions): Promise<Listener> {
  const { writeTimeout } = options
  const connections = new ServerConnections(options.maxConnections, options.newcomers)
  /**
   * Connections by {@link remoteOf}, because under TLS a request has another socket object than the one that the server
   * accepted.
   */
  const known = new Map<string, ServerConnection>()
  /** For each connection, a promise that resolves when its last request so far has its answer. */
  const turns = new WeakMap<Socket, Promise<unknown>>()
  let closing = false

  const answer = async (request: Request, incoming: IncomingMessage, outgoing: ServerResponse): Promise<Response> => {
    // Each pipelined request listens for the end of the connection. That is no leak, so Node must not warn of one.
    incoming.socket.setMaxListeners(0)
    const connection = known.get(remoteOf(incoming.socket))
    if (connection !== undefined && connection.running >= MOST_REQUESTS) incoming.socket.destroy()
    if (incoming.socket.destroyed) return RESPONSE_ALREADY_SENT
    const exchange = connections.begin(connection)
    const over = () => {
      exchange.over()
      incoming.socket.off('close', over)
    }
    outgoing.once('close', over)
    // The end of the connection does not close a pipelined response that still waits for its turn.
    incoming.socket.once('close', over)
    const before = turns.get(incoming.socket)
    turns.set(incoming.socket, exchange.admission.ended)
    await before
    if (incoming.socket.destroyed) return RESPONSE_ALREADY_SENT
    const { method = '', url = '', headers } = incoming
    // Node would throw an endless body away for minutes, with a whole core. @hono/node-server ends those of other methods.
    const hasBody = headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0
    if (closing || (hasBody && /^(?:GET|HEAD)$/.test(method))) outgoing.setHeader('connection', 'close')
    await respond(
      () => malformedAnswer(request, pathOf(url)) ?? handler(request, exchange.admission),
      new NodeClient(incoming, outgoing),
      (error) => options.onError(error, { method, url }),
      { writeTimeout, onSent: exchange.onSent },
    )
    return RESPONSE_ALREADY_SENT
  }
  const listener = getRequestListener(
    (request, env) => {
      const { incoming, outgoing } = env as HttpBindings
      return answer(request, incoming, outgoing)
    },
    // Called only where no Request can be made of the request: `answer` deals with everything else.
    { overrideGlobalObjects: false, errorHandler: badRequest },
  )

  const server = makeServer(options.tls, listener)
  // Our listener comes before the server's own ones, so that a refused connection costs no TLS handshake.
  const accepting = server.listeners('connection')
  server.removeAllListeners('connection')
  server.on('connection', (socket: Socket) => {
    const name = remoteOf(socket)
    const connection = connections.accept(String(socket.remoteAddress), () => socket.destroy())
    if (connection === undefined) {
      socket.destroy()
      return
    }
    known.set(name, connection)
    socket.once('close', () => {
      connections.remove(connection)
      if (known.get(name) === connection) known.delete(name)
    })
    for (const listener of accepting) listener.call(server, socket)
  })
  const { address, port } = await bind(server, options)

  return {
    host: address,
    port,
    get running() {
      return connections.admitted
    },
    async close(drain) {
      await connections.finish(drain)
      closing = true
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      connections.endIdle()
      const cut = await connections.drain(drain)
      // All answers have been sent, so a client that never closes its side must not keep the process alive.
      server.closeAllConnections()
      await closed
      return cut
    },
  }
}

function makeServer(tls: MutualTls | undefined, listener: (i: IncomingMessage, o: ServerResponse) => void): Server {
  const options = {
    headersTimeout: HEADERS_TIMEOUT,
    keepAliveTimeout: KEEP_ALIVE_TIMEOUT,
    maxHeaderSize: MAX_HEAD,
    noDelay: true,
  }
  if (tls === undefined) return createServer(options, listener)
  const { ca, cert, key } = tls
  return createTlsServer(
    { ...options, ca: [...ca], cert, key, requestCert: true, rejectUnauthorized: true, minVersion: 'TLSv1.3' },
    listener,
  )
}

async function bind(server: Server, options: ListenOptions): Promise<AddressInfo> {
  return await new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host: options.host, port: options.port, exclusive: true }, () => {
      server.off('error', reject)
      resolve(server.address() as AddressInfo)
    })
  })
}

/** The client's address and port, unique among open connections. */
function remoteOf({ remoteAddress, remotePort }: Socket): string {
  return addressOf({ host: String(remoteAddress), port: Number(remotePort) })
}

/** The path of a request target as it was sent. */
function pathOf(target: string): string {
  return target.split(/[?#]/, 1)[0] ?? ''
}

/** The client of a `node:http` exchange. */
class NodeClient implements Client {
  readonly #incoming: IncomingMessage
  readonly #outgoing: ServerResponse
  /** Whether the client has left. */
  gone = false

  constructor(incoming: IncomingMessage, outgoing: ServerResponse) {
    this.#incoming = incoming
    this.#outgoing = outgoing
  }

  get method(): string {
    return this.#incoming.method ?? ''
  }

  get headSent(): boolean {
    return this.#outgoing.headersSent
  }

  writeHead(status: number, headers: Headers): void {
    this.#outgoing.writeHead(status, Object.fromEntries(headers))
  }

  flushHead(): void {
    this.#outgoing.flushHeaders()
  }

  write(chunk: Uint8Array, written: () => void): void {
    // `drain` is not enough: it does not come for small chunks, whose memory is still in use.
    this.#outgoing.write(chunk, written)
  }

  end(): void {
    this.#outgoing.end()
  }

  cut(): void {
    this.#outgoing.socket?.destroySoon()
  }

  drop(): void {
    // `destroySoon` would wait until the client has taken the rest.
    this.#incoming.socket.destroy()
  }

  onLeave(left: () => void): Disposable {
    // A pipelined response has no connection yet, but its request has.
    const ends = [this.#outgoing, this.#incoming.socket] as const
    const leave = () => {
      this.gone = true
      left()
    }
    for (const end of ends) end.on('close', leave)
    if (ends.some(({ destroyed }) => destroyed)) leave()
    return {
      [Symbol.dispose]: () => {
        for (const end of ends) end.off('close', leave)
      },
    }
  }
}
