import { BunConnection, type BunServer, type BunSocket } from './bun-connection.ts'
import { listenOnNode } from './listen-node.ts'
import type { Handler, Listener, ListenOptions } from './listener.ts'
import { runtimeName } from './runtime.ts'
import { ServerConnections } from './server-connections.ts'

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

/**
 * Serves a Web-standard handler in the fastest way that `options` allow.
 *
 * @throws the system's error (EADDRINUSE, EACCES, EADDRNOTAVAIL) if the address cannot be bound
 */
export async function listen(handler: Handler, options: ListenOptions): Promise<Listener> {
  const serve = runtimeName === 'bun' && options.isPlain === true ? listenOnBun : listenOnNode
  return await serve(handler, options)
}

/**
 * Serves requests without a body over Bun's own sockets. On Bun `node:http` takes twice the processor time per byte, and
 * `Bun.serve` does not tell of connections, so nothing could bound silent ones.
 */
async function listenOnBun(handler: Handler, options: ListenOptions): Promise<Listener> {
  const { tls } = options
  const connections = new ServerConnections(options.maxConnections, options.newcomers)
  const server: BunServer = { handler, options, connections, closing: false }
  const listening = Bun.listen({
    hostname: options.host,
    port: options.port,
    exclusive: true,
    ...(tls === undefined ? {} : { tls: { ...tls, requestCert: true, rejectUnauthorized: true, minVersion: TLS_1_3 } }),
    socket: {
      open(socket) {
        const connection = connections.accept(socket.remoteAddress, () => socket.close())
        if (connection === undefined) socket.close()
        else socket.data = new BunConnection(socket, connection, server)
      },
      // Without this handler, Bun calls `open` only after the handshake.
      handshake: () => undefined,
      data(socket, bytes) {
        if (tls !== undefined && !socket.authorized) socket.close()
        else socket.data?.received(bytes)
      },
      drain: (socket) => socket.data?.drained(),
      close: (socket) => socket.data?.closed(),
      // `close` follows.
      error: () => undefined,
    },
  })
  return {
    host: listening.hostname,
    port: listening.port,
    get running() {
      return connections.admitted
    },
    async close(drain) {
      await connections.finish(drain)
      server.closing = true
      listening.stop()
      connections.endIdle()
      return await connections.drain(drain)
    },
  }
}
