/** Members of the swarm that answer with any bytes that a test wants. */
import type { Socket } from 'node:net'
import { CAPABILITY_HEADER } from '../../lib/peers/credentials.ts'
import { grantOf } from '../fixtures/proving.ts'
import { type CountingPeer, startRawPeer } from './http-peer.ts'

/** Makes the bytes of a head with this status, these headers, and the proof that the asker demands. */
export type MakeHead = (status: number, headers: Readonly<Record<string, string | number>>) => string

/** A member that calls `answer` for every request on every connection. */
export async function startRawMember(answer: (socket: Socket, head: MakeHead) => void): Promise<CountingPeer> {
  return await startRawPeer((socket) => {
    let received = ''
    socket.on('data', (bytes) => {
      received += bytes.toString('latin1')
      for (let end = received.indexOf('\r\n\r\n'); end >= 0; end = received.indexOf('\r\n\r\n')) {
        const request = received.slice(0, end)
        received = received.slice(end + 4)
        answer(socket, headMaker(request, socket.localPort))
      }
    })
  })
}

function headMaker(text: string, port: number | undefined): MakeHead {
  const [method = '', path = ''] = text.split(' ')
  const capability = new RegExp(`^${CAPABILITY_HEADER}: (.*)$`, 'im').exec(text)?.[1]?.trim() ?? ''
  const grant = grantOf({ method, path, capability, port })
  return (status, headers) => {
    const told = Object.entries(headers).map(([name, value]): [string, string] => [name, String(value)])
    const all = [...told, ...Object.entries(grant.prove(status, new Headers(told)))]
    return `HTTP/1.1 ${status} X\r\n${all.map(([name, value]) => `${name}: ${value}\r\n`).join('')}\r\n`
  }
}

/** Writes pieces from `make` as long as the other side takes them, up to `bytes` bytes. */
export function pour(socket: Socket, make: () => string | Uint8Array, bytes = Number.POSITIVE_INFINITY): void {
  let left = bytes
  const write = () => {
    while (left > 0 && !socket.destroyed) {
      const piece = make()
      left -= piece.length
      if (!socket.write(piece)) {
        socket.once('drain', write)
        return
      }
    }
  }
  write()
}

/** Writes a piece every few milliseconds until the other side leaves. */
export function drip(socket: Socket, make: () => string | Uint8Array, milliseconds = 20): void {
  const timer = setInterval(() => socket.write(make()), milliseconds)
  socket.once('close', () => clearInterval(timer))
}
