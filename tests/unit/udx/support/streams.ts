import type { UDX, UDXSocket, UDXStream } from '../../../../lib/udx/index.ts'
import type { Simulation } from './simulation.ts'

/** One end of a connection in a simulation, with what has happened to its stream. */
export interface End {
  readonly udx: UDX
  readonly socket: UDXSocket
  readonly stream: UDXStream
  readonly log: {
    bytes: Uint8Array[]
    length: number
    messages: Uint8Array[]
    ended: boolean
    closed: boolean
    error: (Error & { code?: string }) | undefined
  }
}

export const HOST = '127.0.0.1'
/** Milliseconds after which a silent peer is given up: 0.25 + 0.5 + 1, and then 2 s seven times. */
export const GIVE_UP_TIME = 15_750

/** Records what happens to a stream, and reads all its bytes. */
export function watch(stream: UDXStream): End['log'] {
  const log: End['log'] = { bytes: [], length: 0, messages: [], ended: false, closed: false, error: undefined }
  stream.on('data', (bytes) => {
    log.bytes.push(bytes as Uint8Array)
    log.length += (bytes as Uint8Array).length
  })
  stream.on('end', () => {
    log.ended = true
  })
  stream.on('message', (bytes) => log.messages.push(bytes))
  stream.on('error', (error) => {
    log.error = error
  })
  stream.on('close', () => {
    log.closed = true
  })
  return log
}

/** Two connected streams, each on a socket of its own instance. */
export function connectPair(simulation: Simulation): [End, End] {
  const ends = [1, 2].map((id) => {
    const udx = simulation.createUDX()
    const socket = udx.createSocket()
    socket.bind(0, HOST)
    const stream = udx.createStream(id)
    return { udx, socket, stream, log: watch(stream) }
  }) as [End, End]
  const [a, b] = ends
  a.stream.connect(a.socket, 2, b.socket.address()?.port as number, HOST)
  b.stream.connect(b.socket, 1, a.socket.address()?.port as number, HOST)
  return ends
}

/** Writes all of it, waiting for the stream to drain where it asks for that. */
export function writeAll(stream: UDXStream, bytes: Buffer, piece = 16 * 1024): void {
  let offset = 0
  const go = () => {
    while (offset < bytes.length) {
      const next = bytes.subarray(offset, offset + piece)
      offset += piece
      if (!stream.write(next)) {
        stream.once('drain', go)
        return
      }
    }
    stream.end(undefined)
  }
  go()
}

/** Bytes in which no two pieces are alike. */
export function pattern(length: number): Buffer {
  const bytes = Buffer.alloc(length)
  for (let i = 0; i + 4 <= length; i += 4) bytes.writeUInt32LE(Math.imul(i, 2654435761) >>> 0, i)
  return bytes
}

/** Closes the sockets of both ends, and what is left of their streams. */
export async function closeAll(simulation: Simulation, ends: readonly End[]): Promise<void> {
  let open = ends.length
  for (const { stream, socket } of ends) {
    stream.destroy()
    void socket.close().then(() => {
      open--
    })
  }
  await simulation.until(() => open === 0)
}
