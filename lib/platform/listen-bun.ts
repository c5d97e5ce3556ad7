import { filePartOf } from './file-response.ts'
import {
  type Admission,
  type Handler,
  internalError,
  KEEP_ALIVE_TIMEOUT,
  LENGTH_HEADER,
  type Listener,
  type ListenOptions,
  malformedAnswer,
} from './listener.ts'

/** The part of Bun's server that is used here. */
interface BunServer {
  readonly hostname: string
  readonly port: number
  readonly pendingRequests: number
  stop(closeActiveConnections?: boolean): Promise<void>
}

declare const Bun: {
  serve(options: {
    readonly hostname: string
    readonly port: number
    /** Seconds. */
    readonly idleTimeout: number
    readonly development: false
    readonly reusePort: false
    readonly tls?: {
      readonly ca: readonly string[]
      readonly cert: string
      readonly key: string
      readonly requestCert: true
      readonly rejectUnauthorized: true
      readonly minVersion: number
    }
    readonly fetch: (request: Request) => Response | Promise<Response>
    readonly error: (error: Error) => Response
  }): BunServer
  file(path: string): { slice(start: number, end: number): Blob }
}

/** TLS 1.3 as it is on the wire (RFC 8446, section 4.2.1), which is how Bun takes it. */
const TLS_1_3 = 0x0304
/** Milliseconds between looks at how many exchanges are left: Bun does not tell when they end. */
const DRAIN_POLL = 20

/**
 * Serves a handler with `Bun.serve`, which hands files to the kernel (sendfile). A body that breaks off ends with RST
 * there, so this is for clients that resume by themselves.
 *
 * @throws the system's error if the address cannot be bound
 */
export async function listenOnBun(handler: Handler, { host, port, tls, onError }: ListenOptions): Promise<Listener> {
  const failed = (error: unknown, { method, url }: Request) => {
    onError(error, { method, url })
    return internalError()
  }
  // A request that is answered without waiting for an event (microtasks are none) is over before the next one is looked at.
  // So all that are pending, but for the one that asks, have a place or are about to ask for one.
  const admission: Admission = { take: (most) => server.pendingRequests <= most }
  const server = Bun.serve({
    hostname: host,
    port,
    idleTimeout: KEEP_ALIVE_TIMEOUT / 1000,
    development: false,
    // By default a second server of one process gets the same port.
    reusePort: false,
    ...(tls === undefined ? {} : { tls: { ...tls, requestCert: true, rejectUnauthorized: true, minVersion: TLS_1_3 } }),
    fetch(request) {
      // Bun gives the path alone where the Host header cannot be one.
      const malformed = malformedAnswer(request)
      if (malformed !== undefined) return malformed
      try {
        const response = handler(request, admission)
        if (response instanceof Response) return bunResponse(request, response)
        return response.then((late) => bunResponse(request, late)).catch((error) => failed(error, request))
      } catch (error) {
        return failed(error, request)
      }
    },
    // What fails after the handler, such as a file that is gone; Bun does not say for which request.
    error(error) {
      onError(error, { method: '', url: '' })
      return internalError()
    },
  })
  return {
    host: server.hostname,
    port: server.port,
    get running() {
      return server.pendingRequests
    },
    async close(drain) {
      const stopped = server.stop()
      while (server.pendingRequests > 0 && !drain.aborted)
        await new Promise((resolve) => setTimeout(resolve, DRAIN_POLL))
      const cut = server.pendingRequests
      // Also ends idle connections, for which stop() alone would wait.
      await server.stop(true)
      await stopped
      return cut
    },
  }
}

/**
 * Replaces the body of a file response by Bun's own way of reading that part of the file; but not for a 200 to a request
 * with a Range, which Bun would apply where the handler did not. Bun sends no Content-Length for any other stream, so
 * another header tells it.
 */
function bunResponse(request: Request, response: Response): Response {
  const { status, headers, body } = response
  const part = filePartOf(response)
  if (part !== undefined && (status !== 200 || !request.headers.has('range'))) {
    return new Response(Bun.file(part.path).slice(part.start, part.start + part.length), { status, headers })
  }
  const length = headers.get('content-length')
  if (body !== null && length !== null) headers.set(LENGTH_HEADER, length)
  return response
}
