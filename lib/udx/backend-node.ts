import dgram from 'node:dgram'
import { type DatagramBackend, RECEIVE_BUFFER } from './backend.ts'

/**
 * Bytes for Deno's buffer per datagram, which it allocates (twice this, in fact) and zeroes each time, and which otherwise has
 * 64 KiB. Neither UDX nor the DHT sends more than 1500 bytes; longer datagrams arrive truncated. The system's buffer keeps its
 * size.
 */
const DENO_RECEIVE_BUFFER = 2048

const isDeno = 'Deno' in globalThis

type Lookup = (host: string, options: unknown, callback: (error: null, address: string, family: number) => void) => void

/** Hosts are always IP addresses, so it answers at once. That makes bind() synchronous and send() cheap. */
const lookup: Lookup = (host, _options, callback) => callback(null, host, 4)

/** Sockets of node:dgram, for Node and Deno. */
export const nodeBackend: DatagramBackend = {
  bind({ port, host }, onDatagram) {
    const socket = dgram.createSocket({ type: 'udp4', lookup: lookup as never })
    let failure: Error | undefined
    // Only binding fails as a whole; later errors concern single datagrams.
    socket.on('error', (error) => {
      failure = error
    })
    socket.on('message', (bytes, from) => onDatagram(bytes, from.port, from.address))
    socket.bind({ port, address: host, exclusive: true })
    if (failure !== undefined) {
      socket.close()
      throw failure
    }
    if (isDeno) socket.setRecvBufferSize(DENO_RECEIVE_BUFFER)
    else enlargeReceiveBuffer(socket)
    /** How many datagrams the system has not taken yet. On Deno 2.9, a socket that is closed before that drops them. */
    let pending = 0
    let closed = false
    const closeIfDone = () => {
      if (closed && pending === 0) socket.close()
    }
    return {
      port: socket.address().port,
      send(bytes, toPort, toHost) {
        if (closed) return
        pending++
        // A datagram that the system refuses counts as lost. Without a callback node:dgram would emit an error.
        socket.send(bytes, 0, bytes.length, toPort, toHost, () => {
          pending--
          closeIfDone()
        })
      },
      close() {
        closed = true
        return new Promise((resolve) => {
          socket.once('close', resolve)
          closeIfDone()
        })
      },
    }
  },
}

function enlargeReceiveBuffer(socket: dgram.Socket): void {
  try {
    socket.setRecvBufferSize(RECEIVE_BUFFER)
  } catch {
    // Linux gives as much as its limit allows. Other systems refuse a size above their limit, and keep the old buffer.
  }
}
