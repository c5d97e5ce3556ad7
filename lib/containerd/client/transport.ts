import type { Interceptor, Transport } from '@connectrpc/connect'
import { createGrpcTransport } from '@connectrpc/connect-node'
import { ContainerdError } from './error.ts'
import { AUTHORITY, createSession } from './session.ts'

/** The header that says in which containerd namespace a call is meant. */
const NAMESPACE_HEADER = 'containerd-namespace'

/** Longest wait in milliseconds for the answer to one call: containerd answers from memory and a local database. */
export const CALL_TIMEOUT = 10_000

/** Largest message accepted, in bytes: containerd's own `max_send_message_size`. */
const MESSAGE_LIMIT = 16 * 1024 * 1024

export interface TransportOptions {
  /** Longest wait for the answer to one unary call, in milliseconds. */
  readonly callTimeout?: number
}

/** A gRPC transport that must be closed. */
export interface ContainerdTransport {
  readonly transport: Transport
  /** Ends the connection and every call on it; later calls fail with the code `closed`. */
  close(): void
}

/**
 * Speaks gRPC to a Unix socket. The connection is made by the first call; when it breaks, the calls on it fail and the
 * next call makes a new one, so a restart of containerd needs nothing here.
 *
 * @param target the path of the socket, and the namespace that goes with every call
 */
export function createContainerdTransport(
  target: { readonly socket: string; readonly namespace: string },
  options: TransportOptions = {},
): ContainerdTransport {
  const { callTimeout = CALL_TIMEOUT } = options
  let closed = false
  const session = createSession(target.socket)
  // Async, so that a refusal is a rejection: connect stops a call's deadline for those only.
  const inNamespace: Interceptor = (next) => async (request) => {
    if (closed) throw new ContainerdError('closed', 'the connection to containerd is closed')
    request.header.set(NAMESPACE_HEADER, target.namespace)
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
    transport: {
      unary: (method, signal, timeout, header, input, context) =>
        transport.unary(method, signal, timeout ?? callTimeout, header, input, context),
      stream: (method, signal, timeout, header, input, context) =>
        transport.stream(method, signal, timeout, header, input, context),
    },
    close() {
      closed = true
      session.close(new ContainerdError('closed', 'the connection to containerd was closed'))
    },
  }
}
