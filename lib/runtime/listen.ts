import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { getRequestListener, type HttpBindings } from '@hono/node-server'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import { send } from './send.ts'

export type Handler = (request: Request) => Response | Promise<Response>

export interface ListenOptions {
  readonly host: string
  /** 0 takes any free port. */
  readonly port: number
  /** Told of every failure that the client could not be told of in full: a handler that threw, a body that broke off. */
  readonly onError: (error: unknown, request: { readonly method: string; readonly url: string }) => void
}

export interface Listener {
  readonly host: string
  readonly port: number
  /**
   * Takes no new connections, lets running exchanges finish until the signal aborts, then ends those that are left.
   * Resolves when nothing is left open, with the number of exchanges that were cut.
   */
  close(drain: AbortSignal): Promise<number>
}

/** A request's head must be complete within this time, in milliseconds: nobody holds a connection by saying nothing. */
const HEADERS_TIMEOUT = 10_000
/** How long an idle connection is kept for the next request, in milliseconds. */
const KEEP_ALIVE_TIMEOUT = 30_000
/** Longest request head in bytes. A repository, a digest and `ns` need under 1 KiB; beyond this node:http answers 431. */
const MAX_HEADER_SIZE = 16 * 1024

/**
 * Serves a Web-standard handler over `node:http`, on every runtime: of the servers that there are it alone can end a
 * broken body with FIN on all three (see send.ts).
 *
 * @throws the system's error (EADDRINUSE, EACCES, EADDRNOTAVAIL) if the address cannot be bound
 */
export async function listen(handler: Handler, options: ListenOptions): Promise<Listener> {
  const exchanges = new Set<ServerResponse>()
  const sockets = new Set<Socket>()
  let closing = false

  const answer = async (request: Request, incoming: IncomingMessage, outgoing: ServerResponse): Promise<Response> => {
    exchanges.add(outgoing)
    outgoing.once('close', () => exchanges.delete(outgoing))
    if (closing) outgoing.setHeader('connection', 'close')
    try {
      await send(await handler(request), incoming, outgoing)
    } catch (error) {
      options.onError(error, { method: incoming.method ?? '', url: incoming.url ?? '' })
      if (!outgoing.headersSent) outgoing.writeHead(500, { 'content-type': 'text/plain; charset=utf-8' })
      if (!outgoing.writableEnded && !outgoing.socket?.writableEnded) outgoing.end()
    }
    return RESPONSE_ALREADY_SENT
  }
  const listener = getRequestListener(
    (request, env) => {
      const { incoming, outgoing } = env as HttpBindings
      return answer(request, incoming, outgoing)
    },
    { overrideGlobalObjects: false },
  )

  const server = createServer(
    {
      headersTimeout: HEADERS_TIMEOUT,
      keepAliveTimeout: KEEP_ALIVE_TIMEOUT,
      maxHeaderSize: MAX_HEADER_SIZE,
      noDelay: true,
    },
    listener,
  )
  server.on('connection', (socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  const { address, port } = await bind(server, options)

  return {
    host: address,
    port,
    async close(drain) {
      closing = true
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      for (const socket of sockets) if (!isBusy(socket, exchanges)) socket.destroySoon()
      await untilEmpty(exchanges, drain)
      const cut = exchanges.size
      for (const socket of sockets) socket.destroySoon()
      // A client that never closes its side must not keep the process: by now everything that could be said was said.
      server.closeAllConnections()
      await closed
      return cut
    },
  }
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

function isBusy(socket: Socket, exchanges: ReadonlySet<ServerResponse>): boolean {
  for (const exchange of exchanges) if (exchange.socket === socket) return true
  return false
}

/** Waits until the set is empty or the signal aborts. Exchanges leave the set as their responses close. */
async function untilEmpty(exchanges: ReadonlySet<ServerResponse>, signal: AbortSignal): Promise<void> {
  const aborted = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
  while (exchanges.size > 0 && !signal.aborted) {
    const closes = [...exchanges].map((exchange) => new Promise<void>((resolve) => exchange.once('close', resolve)))
    await Promise.race([Promise.all(closes), aborted])
  }
}
