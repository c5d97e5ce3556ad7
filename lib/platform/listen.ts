import { listenOnBun } from './listen-bun.ts'
import { listenOnNode } from './listen-node.ts'
import type { Handler, Listener, ListenOptions } from './listener.ts'
import { runtimeName } from './runtime.ts'

/**
 * Serves a Web-standard handler in the fastest way that keeps what `options` promise.
 *
 * @throws the system's error (EADDRINUSE, EACCES, EADDRNOTAVAIL) if the address cannot be bound
 */
export async function listen(handler: Handler, options: ListenOptions): Promise<Listener> {
  const serve = runtimeName === 'bun' && options.isPlain === true ? listenOnBun : listenOnNode
  return await serve(handler, options)
}
