import type { DatagramBackend } from '../../../../lib/udx/index.ts'
import { createRandom } from './random.ts'

/** How a {@link createFaultyBackend} treats datagrams. */
export interface Faults {
  /** The share of datagrams that are dropped, in both directions. May change. */
  loss: number
  readonly seed: number
  /** Called with every outgoing datagram; may send more. */
  readonly tap?: (bytes: Uint8Array, send: (bytes: Uint8Array) => void) => void
}

/** The given datagram sockets behind a bad network. */
export function createFaultyBackend(inner: DatagramBackend, faults: Faults): DatagramBackend {
  const random = createRandom(faults.seed)
  const drops = (): boolean => faults.loss > 0 && random() < faults.loss
  return {
    bind(options, onDatagram) {
      const socket = inner.bind(options, (bytes, port, host) => {
        if (!drops()) onDatagram(bytes, port, host)
      })
      return {
        port: socket.port,
        send(bytes, port, host) {
          faults.tap?.(bytes, (extra) => socket.send(extra, port, host))
          if (!drops()) socket.send(bytes, port, host)
        },
        close: () => socket.close(),
      }
    },
  }
}
