import type { Socket } from 'node:net'
import { addressOf } from './address.ts'
import { OPEN_FILES_LIMIT } from './open-files-limit.ts'

/**
 * A few for each of a thousand nodes; an idle one costs about 10 KiB. Three doors must leave descriptors for files: on Deno
 * 2.9 a server that once could not accept a connection for want of one never accepts another.
 */
export const MAX_CONNECTIONS = Math.min(4_096, Math.floor((OPEN_FILES_LIMIT || Number.POSITIVE_INFINITY) / 4))

/** The address of the other end, unique among open connections. */
export function remoteOf({ remoteAddress, remotePort }: Socket): string {
  return addressOf({ host: String(remoteAddress), port: Number(remotePort) })
}

/** Ends the connection that has been open for longest without being used now. It counts no more, so that the next one ends another. */
export function endOldest(sockets: Map<string, Socket>, busy: ReadonlySet<string>): void {
  for (const [name, socket] of sockets) {
    if (busy.has(name)) continue
    sockets.delete(name)
    socket.destroySoon()
    return
  }
}
