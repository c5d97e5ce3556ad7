import type { Backend } from '../../../../lib/udx/index.ts'
import { createRandom } from './random.ts'

/** What a {@link createFaultyBackend} does to datagrams. */
export interface Faults {
  /** Share of the datagrams that are dropped, of those that leave as of those that arrive. May change. */
  loss: number
  readonly seed: number
  /** Called with every datagram that leaves; may send more by itself. */
  readonly tap?: (bytes: Buffer, send: (bytes: Buffer) => void) => void
}

/** The given datagram sockets behind a bad network. */
export function createFaultyBackend(inner: Backend, faults: Faults): Backend {
  const random = createRandom(faults.seed)
  const drops = (): boolean => faults.loss > 0 && random() < faults.loss
  return {
    bind(options, events) {
      const socket = inner.bind(options, {
        error: (error) => events.error(error),
        message: (bytes, port, host) => {
          if (!drops()) events.message(bytes, port, host)
        },
      })
      return {
        address: socket.address,
        send(bytes, port, host) {
          faults.tap?.(bytes, (extra) => socket.send(extra, port, host))
          if (!drops()) socket.send(bytes, port, host)
        },
        flush: () => socket.flush?.(),
        sendNow: (bytes, port, host, ttl) => (drops() ? Promise.resolve(true) : socket.sendNow(bytes, port, host, ttl)),
        close: () => socket.close(),
      }
    },
  }
}
