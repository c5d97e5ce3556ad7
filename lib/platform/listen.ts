import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { getRequestListener, type HttpBindings } from '@hono/node-server'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import { endOldest, MAX_CONNECTIONS, remoteOf } from './connections.ts'
import { send } from './send.ts'

/** Bounds how many exchanges run at a time. */
export interface Admission {
  /**
   * Takes a place for this exchange, until its response has been sent or its client has left; gives false, and takes none,
   * if `most` others have one.
   */
  take(most: number): boolean
  /** Resolves when the response has been sent or its client has left. Missing where a server does not tell. */
  readonly ended?: Promise<void>
}

export type Handler = (request: Request, admission: Admission) => Response | Promise<Response>

/** A server's certificate and key, and the authorities of which one must have signed the client's; all in PEM. */
export interface MutualTls {
  readonly ca: readonly string[]
  readonly cert: string
  readonly key: string
}

export interface ListenOptions {
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
  /** Speaks TLS 1.3, and only with clients that have a certificate; plain TCP if missing. */
  readonly tls?: MutualTls | undefined
  /** Connections that are open at a time, before new ones end the oldest that are idle. */
  readonly maxConnections?: number
  /** Milliseconds within which a client must take a chunk of a body, of at most 256 KiB, or its connection is ended. */
  readonly writeTimeout?: number
  /** Told of every failure that the client could not be told of in full: a handler that threw, a body that broke off. */
  readonly onError: (error: unknown, request: { readonly method: string; readonly url: string }) => void
}

export interface Listener {
  readonly host: string
  readonly port: number
  /** Exchanges that have a place (see {@link Admission}) at this moment. */
  readonly running: number
  /**
   * Takes no new connections, lets running exchanges finish until the signal aborts, then ends those that are left.
   * Resolves when nothing is left open, with the number of exchanges that were cut.
   */
  close(drain: AbortSignal): Promise<number>
}

/** A request's head must be complete within this time, in milliseconds: nobody holds a connection by saying nothing. */
const HEADERS_TIMEOUT = 10_000
/** How long an idle connection is kept for the next request, in milliseconds. */
export const KEEP_ALIVE_TIMEOUT = 30_000
/** A TLS handshake must be complete within this time, in milliseconds. */
const HANDSHAKE_TIMEOUT = 5_000
/**
 * A client may rest for long while its disk does not keep up. But containerd itself cancels a pull that has not moved for 5
 * minutes (1.7's `image_pull_progress_timeout`), so who takes nothing for twice as long is no pull any more.
 */
const WRITE_TIMEOUT = 10 * 60 * 1000
/** Longest request head in bytes. A repository, a digest and `ns` need under 1 KiB; beyond this node:http answers 431. */
const MAX_HEADER_SIZE = 16 * 1024

/**
 * Serves a Web-standard handler over `node:http`, on every runtime: of the servers that there are it alone can end a
 * broken body with FIN on all three (see send.ts).
 *
 * @throws the system's error (EADDRINUSE, EACCES, EADDRNOTAVAIL) if the address cannot be bound
 */
export async function listen(handler: Handler, options: ListenOptions): Promise<Listener> {
  const { maxConnections = MAX_CONNECTIONS, writeTimeout = WRITE_TIMEOUT } = options
  const exchanges = new Set<Exchange>()
  /** By {@link remoteOf}: under TLS, an exchange has another object for the connection than the server that accepted it. */
  const sockets = new Map<string, Socket>()
  const busy = () => new Set([...exchanges].map(({ connection }) => connection))
  let admitted = 0
  let closing = false

  const answer = async (request: Request, incoming: IncomingMessage, outgoing: ServerResponse): Promise<Response> => {
    // Each pipelined request listens for the end of the one connection, which is no leak to warn of on standard error.
    incoming.socket.setMaxListeners(0)
    const exchange = { connection: remoteOf(incoming.socket), done: Promise.withResolvers<void>() }
    let places = 0
    const admission: Admission = {
      take(most) {
        if (places === 0 && admitted < most && exchanges.has(exchange)) {
          places = 1
          admitted++
        }
        return places === 1
      },
      ended: exchange.done.promise,
    }
    const over = () => {
      if (exchanges.delete(exchange)) admitted -= places
      exchange.done.resolve()
      incoming.socket.off('close', over)
    }
    exchanges.add(exchange)
    outgoing.once('close', over)
    // A pipelined response that is still waiting for its turn does not hear of the end of its connection.
    incoming.socket.once('close', over)
    if (closing) outgoing.setHeader('connection', 'close')
    try {
      const verbatim = pathOf(incoming.url ?? '') === new URL(request.url).pathname
      await send(verbatim ? await handler(request, admission) : badRequest(), incoming, outgoing, writeTimeout)
    } catch (error) {
      options.onError(error, { method: incoming.method ?? '', url: incoming.url ?? '' })
      fail(outgoing)
    }
    return RESPONSE_ALREADY_SENT
  }
  const listener = getRequestListener(
    (request, env) => {
      const { incoming, outgoing } = env as HttpBindings
      return answer(request, incoming, outgoing)
    },
    // What node:http lets through but no URL can be made of; a handler that fails is dealt with above.
    { overrideGlobalObjects: false, errorHandler: () => badRequest() },
  )

  const server = makeServer(options.tls, listener)
  server.on('connection', (socket: Socket) => {
    const name = remoteOf(socket)
    sockets.set(name, socket)
    socket.once('close', () => {
      if (sockets.get(name) === socket) sockets.delete(name)
    })
    if (sockets.size > maxConnections) endOldest(sockets, busy())
  })
  const { address, port } = await bind(server, options)

  return {
    host: address,
    port,
    get running() {
      return admitted
    },
    async close(drain) {
      closing = true
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      const running = busy()
      for (const [name, socket] of sockets) if (!running.has(name)) socket.destroySoon()
      await untilEmpty(exchanges, drain)
      const cut = exchanges.size
      for (const socket of sockets.values()) socket.destroySoon()
      // A client that never closes its side must not keep the process: by now everything that could be said was said.
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
    maxHeaderSize: MAX_HEADER_SIZE,
    noDelay: true,
  }
  if (tls === undefined) return createServer(options, listener)
  return createTlsServer(
    {
      ...options,
      ca: [...tls.ca],
      cert: tls.cert,
      key: tls.key,
      requestCert: true,
      rejectUnauthorized: true,
      minVersion: 'TLSv1.3',
      handshakeTimeout: HANDSHAKE_TIMEOUT,
    },
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

/** The path of a request target as it was sent. */
function pathOf(target: string): string {
  return target.split(/[?#]/, 1)[0] ?? ''
}

/**
 * The answer to a path that a URL parser would turn into another one (dot segments, also percent-encoded, backslashes,
 * characters that must be encoded): what a handler sees must be what the client sent.
 */
export function badRequest(): Response {
  const text = 'bad request: the path or the Host header is not in its normal form\n'
  const headers = { 'content-type': 'text/plain; charset=utf-8', 'content-length': String(text.length) }
  return new Response(text, { status: 400, headers })
}

/** Ends an exchange that failed: with a 500 if nothing was said yet, else with the end of its connection. */
function fail(outgoing: ServerResponse): void {
  if (outgoing.headersSent) {
    outgoing.socket?.destroySoon()
    return
  }
  const text = 'internal error; the log of this mirror has the cause\n'
  outgoing.writeHead(500, { 'content-type': 'text/plain; charset=utf-8', 'content-length': text.length })
  outgoing.end(text)
}

/** A request and its response, until the response has been sent or the connection has ended. */
interface Exchange {
  /** {@link remoteOf} its connection. */
  readonly connection: string
  readonly done: PromiseWithResolvers<void>
}

/** Waits until the set is empty or the signal aborts. Exchanges leave the set as their responses close. */
async function untilEmpty(exchanges: ReadonlySet<Exchange>, signal: AbortSignal): Promise<void> {
  const { promise: aborted, resolve } = Promise.withResolvers<void>()
  const abort = () => resolve()
  signal.addEventListener('abort', abort, { once: true })
  while (exchanges.size > 0 && !signal.aborted) {
    const closes = [...exchanges].map(({ done }) => done.promise)
    await Promise.race([Promise.all(closes), aborted])
  }
  // On Deno a time-out signal that somebody listens to keeps the process until it is over.
  signal.removeEventListener('abort', abort)
}
