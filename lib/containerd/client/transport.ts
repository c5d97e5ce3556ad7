import type { Interceptor, Transport } from '@connectrpc/connect'
import { createGrpcTransport } from '@connectrpc/connect-node'
import { ContainerdError } from './error.ts'
import { AUTHORITY, createSession } from './session.ts'

/** The header that names the containerd namespace of a call. */
const NAMESPACE_HEADER = 'containerd-namespace'

/** Longest wait in milliseconds for the answer to one call: containerd answers from memory and a local database. */
export const CALL_TIMEOUT = 10_000

/** Largest message accepted, in bytes: containerd's own `max_send_message_size`. */
const MESSAGE_LIMIT = 16 * 1024 * 1024

export interface ConnectionOptions {
  /** Longest wait for the answer to one unary call, in milliseconds. */
  readonly callTimeout?: number
}

/** A connection to a Unix socket where gRPC is spoken, which all namespaces share. */
export interface ContainerdConnection {
  /** What makes calls in a namespace. */
  transportIn(namespace: string): Transport
  /** Ends the connection and every call on it; later calls fail with the code `closed`. */
  close(): void
}

/**
 * Speaks gRPC to a Unix socket. The first call makes the connection; when it breaks, the calls on it fail and the next
 * call makes a new one, so a restart of containerd needs nothing here.
 */
export function createContainerdConnection(
  socket: string,
  { callTimeout = CALL_TIMEOUT }: ConnectionOptions = {},
): ContainerdConnection {
  let closed = false
  const session = createSession(socket)
  return {
    transportIn(namespace) {
      // Async, so that a refusal is a rejection: connect stops a call's deadline for those only.
      const inNamespace: Interceptor = (next) => async (request) => {
        if (closed) throw new ContainerdError('closed', 'the connection to containerd is closed')
        request.header.set(NAMESPACE_HEADER, namespace)
        return next(request)
      }
      const transport = createGrpcTransport({
        baseUrl: AUTHORITY,
        sessionManager: session,
        interceptors: [inNamespace],
        // Blobs are compressed already, and the socket is local.
        acceptCompression: [],
        readMaxBytes: MESSAGE_LIMIT,
      })
      return {
        unary: (method, signal, timeout, header, input, context) =>
          transport.unary(method, signal, timeout ?? callTimeout, header, input, context),
        stream: (method, signal, timeout, header, input, context) =>
          transport.stream(method, signal, timeout, header, input, context),
      }
    },
    close() {
      closed = true
      session.close(new ContainerdError('closed', 'the connection to containerd was closed'))
    },
  }
}
