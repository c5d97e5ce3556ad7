import { createRequire } from 'node:module'
import b4a from 'b4a'
import { type DatagramBackend, RECEIVE_BUFFER } from './backend.ts'

/** The part of Bun.udpSocket() that is used here. */
interface BunSocket {
  readonly port: number
  readonly fd?: number
  send(bytes: Uint8Array, port: number, host: string): boolean
  close(): void
}

declare const Bun: {
  udpSocket(options: {
    hostname: string
    port: number
    socket: { data(socket: BunSocket, bytes: Uint8Array, port: number, host: string): void; error(): void }
  }): Promise<BunSocket>
  peek(promise: Promise<BunSocket>): BunSocket | Promise<BunSocket>
}

/** Linux's numbers for setsockopt(2). */
const SOL_SOCKET = 1
const SO_RCVBUF = 8

/** Sockets of Bun.udpSocket(), because Bun's node:dgram does not bind synchronously. */
export const bunBackend: DatagramBackend = {
  bind({ port, host }, onDatagram) {
    const opening = Bun.udpSocket({
      hostname: host,
      port,
      socket: {
        data: (_socket, bytes, fromPort, fromHost) => onDatagram(bytes, fromPort, fromHost),
        // An error concerns a single datagram, which is lost.
        error: () => undefined,
      },
    })
    // The socket is bound when the call returns, although the result is a promise.
    const socket = Bun.peek(opening)
    if (socket instanceof Promise) throw new Error('Bun.udpSocket() did not bind synchronously')
    if (socket.fd !== undefined) enlargeReceiveBuffer(socket.fd)
    return {
      port: socket.port,
      send(bytes, toPort, toHost) {
        try {
          socket.send(bytes, toPort, toHost)
        } catch {
          // A datagram that the system refuses counts as lost.
        }
      },
      close() {
        socket.close()
        return Promise.resolve()
      },
    }
  },
}

/** The part of bun:ffi that is used here. */
interface BunFfi {
  dlopen(
    path: string,
    symbols: { setsockopt: { args: readonly string[]; returns: string } },
  ): { symbols: { setsockopt(...args: readonly [...number[], Uint8Array, number]): number }; close(): void }
}

/** Uses bun:ffi, because Bun has no function for this. */
function enlargeReceiveBuffer(fd: number): void {
  if (process.platform !== 'linux') return
  const { dlopen } = createRequire(import.meta.url)('bun:ffi') as BunFfi
  try {
    const libc = dlopen('libc.so.6', { setsockopt: { args: ['i32', 'i32', 'i32', 'ptr', 'u32'], returns: 'i32' } })
    const value = b4a.alloc(4)
    b4a.writeInt32LE(value, RECEIVE_BUFFER)
    libc.symbols.setsockopt(fd, SOL_SOCKET, SO_RCVBUF, value, value.length)
    libc.close()
  } catch {
    // Without glibc the buffer keeps its size.
  }
}
