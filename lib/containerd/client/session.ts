import {
  type ClientHttp2Stream,
  type ClientSessionRequestOptions,
  connect,
  constants,
  type OutgoingHttpHeaders,
} from 'node:http2'
import { connect as dial } from 'node:net'

/** HTTP/2 requires an authority, which means nothing over a Unix socket. */
export const AUTHORITY = 'http://localhost'

/** How often a call tries to get a connection, because the first one may have just ended. */
const ATTEMPTS = 2

/** Listens to an error that something else reports, so that it does not end the process. */
const heard = () => undefined

/**
 * An HTTP/2 connection to a Unix socket, for connect's transport. The first call makes it, and the next call after a break makes
 * another. It replaces connect's own manager, which removes its listeners from a connection that is about to fail. An error
 * without a listener ends the process: on Node and Deno if something other than containerd answers, and on Deno if the other end
 * closes at once.
 */
export function createSession(socket: string) {
  const open = new Set<Connection>()
  let current: Connection | undefined
  let closed: Error | undefined

  function connected(): Connection {
    const session = connect(AUTHORITY, { createConnection: () => dial(socket).on('error', heard) })
    const { promise: ready, resolve, reject } = Promise.withResolvers<void>()
    ready.catch(heard)
    const connection: Connection = { ready, begin, end }
    let streams = 0
    open.add(connection)
    const leave = () => {
      if (current === connection) current = undefined
    }
    const over = (reason: Error) => {
      leave()
      open.delete(connection)
      reject(reason)
    }
    function begin(headers: OutgoingHttpHeaders, options: ClientSessionRequestOptions) {
      if (session.closed || session.destroyed) return undefined
      try {
        const stream = session.request(headers, options)
        // A call keeps the process alive while it runs.
        if (streams++ === 0) session.ref()
        stream.once('close', () => {
          streams -= 1
          if (streams === 0 && !session.destroyed) session.unref()
        })
        return stream
      } catch (error) {
        if (ENDING.has((error as NodeJS.ErrnoException).code ?? '')) return undefined
        throw error
      }
    }
    function end(reason: Error): void {
      over(reason)
      session.destroy(reason, constants.NGHTTP2_CANCEL)
    }
    session.once('connect', () => {
      // An idle connection does not keep the process alive.
      session.unref()
      resolve()
    })
    // Running calls go on; new ones need another connection.
    session.once('goaway', leave)
    // Never removed, because some errors come after the end.
    session.on('error', over)
    session.once('close', () => over(gone()))
    return connection
  }

  return {
    /** The open connection, if there is one. Each new connection is another object. */
    get connection(): object | undefined {
      return current
    },
    authority: AUTHORITY,

    async request(
      method: string,
      path: string,
      headers: OutgoingHttpHeaders,
      options: ClientSessionRequestOptions,
    ): Promise<ClientHttp2Stream> {
      for (let attempt = 1; attempt <= ATTEMPTS; attempt++) {
        if (closed !== undefined) throw closed
        current ??= connected()
        const connection = current
        await connection.ready
        const stream = connection.begin({ ...headers, ':method': method, ':path': path }, options)
        if (stream !== undefined) return stream
        if (current === connection) current = undefined
      }
      throw closed ?? gone()
    },

    notifyResponseByteRead: (): void => undefined,

    /** Ends the connection and every call on it. Later calls fail with the same reason. */
    close(reason: Error): void {
      closed = reason
      for (const connection of open) connection.end(reason)
    },
  }
}

interface Connection {
  /** Rejects if the connection ends first. */
  readonly ready: Promise<void>
  /** Begins a call; returns `undefined` if the connection ended before anything was sent. */
  begin(headers: OutgoingHttpHeaders, options: ClientSessionRequestOptions): ClientHttp2Stream | undefined
  end(reason: Error): void
}

/** The codes of a connection that accepts no more calls. */
const ENDING = new Set(['ERR_HTTP2_GOAWAY_SESSION', 'ERR_HTTP2_INVALID_SESSION'])

function gone(): NodeJS.ErrnoException {
  return Object.assign(new Error('the connection has ended'), { code: 'ECONNRESET' })
}
