import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import { getRequestListener, type HttpBindings } from '@hono/node-server'
import { RESPONSE_ALREADY_SENT } from '@hono/node-server/utils/response'
import { onAbort } from './abort.ts'
import { addressOf } from './address.ts'
import {
  type Admission,
  badRequest,
  type Handler,
  internalError,
  KEEP_ALIVE_TIMEOUT,
  type Listener,
  type ListenOptions,
  type MutualTls,
  malformedAnswer,
} from './listener.ts'
import { OPEN_FILES_LIMIT } from './runtime.ts'
import { send } from './send.ts'

/** A request's head must be complete within this time, in milliseconds: nobody holds a connection by saying nothing. */
const HEADERS_TIMEOUT = 10_000
/** A TLS handshake must be complete within this time, in milliseconds. */
const HANDSHAKE_TIMEOUT = 5_000
/**
 * How long a client may take for a chunk, in milliseconds. A client may rest for long while its disk does not keep up, but
 * containerd itself cancels a pull that has not moved for 5 minutes (1.7's `image_pull_progress_timeout`): a client that
 * rests for twice as long is no pull any more.
 */
const WRITE_TIMEOUT = 10 * 60 * 1000
/** Longest request head in bytes. A repository, a digest and `ns` need under 1 KiB; beyond this node:http answers 431. */
const MAX_HEADER_SIZE = 16 * 1024
/**
 * A few connections for each of a thousand nodes; an idle one costs about 10 KiB. Three doors must leave descriptors for
 * files: a server on Deno 2.9 that once could not accept a connection for want of one never accepts another.
 */
const MAX_CONNECTIONS = Math.min(4_096, Math.floor((OPEN_FILES_LIMIT || Number.POSITIVE_INFINITY) / 4))

/** A request and its response, until the response has been sent or the connection has ended. */
interface Exchange {
  /** {@link remoteOf} its connection. */
  readonly connection: string
  readonly done: PromiseWithResolvers<number>
}

/**
 * Serves a handler over `node:http`, on every runtime: the only server that ends a broken body with FIN on all three (see
 * send.ts).
 *
 * @throws the system's error (EADDRINUSE, EACCES, EADDRNOTAVAIL) if the address cannot be bound
 */
export async function listenOnNode(handler: Handler, options: ListenOptions): Promise<Listener> {
  const { maxConnections = MAX_CONNECTIONS, writeTimeout = WRITE_TIMEOUT } = options
  const exchanges = new Set<Exchange>()
  /** By {@link remoteOf}: under TLS an exchange sees another object for its connection than the server that accepted it. */
  const sockets = new Map<string, Socket>()
  const busy = () => new Set([...exchanges].map(({ connection }) => connection))
  let admitted = 0
  let closing = false

  const answer = async (request: Request, incoming: IncomingMessage, outgoing: ServerResponse): Promise<Response> => {
    // Each pipelined request listens for the end of the one connection, which is no leak to warn of on standard error.
    incoming.socket.setMaxListeners(0)
    const exchange = { connection: remoteOf(incoming.socket), done: Promise.withResolvers<number>() }
    let places = 0
    let sent = 0
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
      exchange.done.resolve(sent)
      incoming.socket.off('close', over)
    }
    exchanges.add(exchange)
    outgoing.once('close', over)
    // A pipelined response that is still waiting for its turn does not hear of the end of its connection.
    incoming.socket.once('close', over)
    if (closing) outgoing.setHeader('connection', 'close')
    try {
      const malformed = malformedAnswer(request, pathOf(incoming.url ?? ''))
      const response = malformed ?? (await handler(request, admission))
      const onSent = (bytes: number) => {
        sent += bytes
      }
      await send(response, incoming, outgoing, writeTimeout, onSent)
    } catch (error) {
      options.onError(error, { method: incoming.method ?? '', url: incoming.url ?? '' })
      if (outgoing.headersSent) outgoing.socket?.destroySoon()
      else await send(internalError(), incoming, outgoing, writeTimeout)
    }
    return RESPONSE_ALREADY_SENT
  }
  const listener = getRequestListener(
    (request, env) => {
      const { incoming, outgoing } = env as HttpBindings
      return answer(request, incoming, outgoing)
    },
    // Only for a request that no Request can be made of: `answer` deals with everything else.
    { overrideGlobalObjects: false, errorHandler: badRequest },
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
      // A client that never closes its side must not keep the process: everything that could be said was said.
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

/** The address of the other end, unique among open connections. */
function remoteOf({ remoteAddress, remotePort }: Socket): string {
  return addressOf({ host: String(remoteAddress), port: Number(remotePort) })
}

/** Ends the connection that has been open for longest without being used now, and forgets it: the next call ends another. */
function endOldest(sockets: Map<string, Socket>, busy: ReadonlySet<string>): void {
  for (const [name, socket] of sockets) {
    if (busy.has(name)) continue
    sockets.delete(name)
    socket.destroySoon()
    return
  }
}

/** The path of a request target as it was sent. */
function pathOf(target: string): string {
  return target.split(/[?#]/, 1)[0] ?? ''
}

/** Waits until the set is empty or the signal aborts. Exchanges leave the set as their responses close. */
async function untilEmpty(exchanges: ReadonlySet<Exchange>, signal: AbortSignal): Promise<void> {
  const { promise: aborted, resolve } = Promise.withResolvers<void>()
  using _ = onAbort(signal, resolve)
  while (exchanges.size > 0 && !signal.aborted) {
    const closes = [...exchanges].map(({ done }) => done.promise)
    await Promise.race([Promise.all(closes), aborted])
  }
}
