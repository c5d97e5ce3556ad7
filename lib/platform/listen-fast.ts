import { type Handler, type Listener, type ListenOptions, listen } from './listen.ts'
import { listenOnBun } from './listen-bun.ts'
import { runtimeName } from './runtime.ts'

/**
 * Serves a handler in the runtime's fastest way from file to socket, for clients that resume a body that breaks off: how
 * it ends is up to the runtime. For containerd use {@link listen}.
 *
 * @throws the system's error (EADDRINUSE, EACCES, EADDRNOTAVAIL) if the address cannot be bound
 */
export async function listenFast(handler: Handler, options: ListenOptions): Promise<Listener> {
  return runtimeName === 'bun' ? await listenOnBun(handler, options) : await listen(handler, options)
}
